//! The chat templates of a model folder: [`Found`] looks for them in the order of transformers. First comes
//! `chat_template.jinja` with the named ones of `additional_chat_templates/`, then `chat_template` of
//! `tokenizer_config.json` (one, or several with names), then `chat_template.json`, where processors keep theirs.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use super::Builtin;
use crate::error::DataError;
use crate::tokenizer::object;

const FILE: &str = "chat_template.jinja";
const NAMED_FILES: &str = "additional_chat_templates";
const CONFIG: &str = "tokenizer_config.json";
const PROCESSOR: &str = "chat_template.json";

/// The templates of a model, as text.
#[derive(Debug)]
pub(super) struct Found {
    /// The file, for messages.
    pub name: String,
    /// The template that renders dialogues.
    pub default: String,
    /// The other templates, by name. `tool_use` renders dialogues that offer tools.
    pub named: BTreeMap<String, String>,
    /// A place that holds another template, which is not used.
    pub other: Option<String>,
}

impl Found {
    /// Looks for templates in a model folder; absent when there are none.
    pub(super) fn in_folder(folder: &Path) -> Result<Option<Self>, DataError> {
        let files = files(folder)?;
        if !files.is_empty() {
            let found = Self::choose(folder, FILE, files)?;
            let config = object(folder, CONFIG)?.remove("chat_template");
            let other = config.is_some_and(|config| config.as_str().is_some_and(|text| text != found.default));
            let other = other.then(|| folder.join(CONFIG).display().to_string());
            return Ok(Some(Self { other, ..found }));
        }
        for name in [CONFIG, PROCESSOR] {
            let templates = match object(folder, name)?.remove("chat_template") {
                None | Some(Value::Null) => continue,
                Some(Value::String(source)) => BTreeMap::from([("default".to_owned(), source)]),
                Some(Value::Array(items)) => items.iter().filter_map(named).collect(),
                Some(Value::Object(items)) => {
                    items.into_iter().filter_map(|(name, source)| Some((name, source.as_str()?.to_owned()))).collect()
                }
                Some(_) => return Err(missing(folder, name, "`chat_template` is neither text nor a list")),
            };
            return Self::choose(folder, name, templates).map(Some);
        }
        Ok(None)
    }

    fn choose(folder: &Path, name: &str, mut templates: BTreeMap<String, String>) -> Result<Self, DataError> {
        let default = templates.remove("default");
        // Names become file names when a model is written.
        templates.retain(|name, _| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        });
        Ok(Self {
            name: folder.join(name).display().to_string(),
            default: default.ok_or_else(|| missing(folder, name, "none of its templates is called `default`"))?,
            named: templates,
            other: None,
        })
    }
}

/// Writes the templates of a model folder to another one, as files of their own, which come before any other place.
/// Returns whether there were any.
///
/// # Errors
/// Templates that cannot be read; errors of writing.
pub fn copy_templates(from: &Path, to: &Path) -> Result<bool, DataError> {
    let Some(found) = Found::in_folder(from)? else { return Ok(false) };
    let write = |path: &Path, source: &str| {
        std::fs::write(path, source).map_err(|source| DataError::Write { path: path.to_path_buf(), source })
    };
    write(&to.join(FILE), &found.default)?;
    if !found.named.is_empty() {
        let folder = to.join(NAMED_FILES);
        std::fs::create_dir_all(&folder).map_err(|source| DataError::Write { path: folder.clone(), source })?;
        for (name, source) in &found.named {
            write(&folder.join(format!("{name}.jinja")), source)?;
        }
    }
    Ok(true)
}

/// The error for a folder without a template.
pub(super) fn none(folder: &Path) -> DataError {
    missing(folder, CONFIG, "the model has no chat template")
}

/// Templates that have a file of their own.
fn files(folder: &Path) -> Result<BTreeMap<String, String>, DataError> {
    let mut found = BTreeMap::new();
    let mut read = |name: &str, path: &Path| match std::fs::read_to_string(path) {
        Ok(source) => {
            found.insert(name.to_owned(), source);
            Ok(())
        }
        Err(problem) if problem.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(DataError::Read { path: path.to_path_buf(), source }),
    };
    read("default", &folder.join(FILE))?;
    let named = folder.join(NAMED_FILES);
    let entries = match std::fs::read_dir(&named) {
        Ok(entries) => entries,
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(found),
        Err(source) => return Err(DataError::Read { path: named, source }),
    };
    for entry in entries {
        let path = entry.map_err(|source| DataError::Read { path: named.clone(), source })?.path();
        if path.extension().is_some_and(|extension| extension == "jinja")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            read(name, &path)?;
        }
    }
    Ok(found)
}

/// A template of a list: `{"name": .., "template": ..}`.
fn named(item: &Value) -> Option<(String, String)> {
    Some((item.get("name")?.as_str()?.to_owned(), item.get("template")?.as_str()?.to_owned()))
}

fn missing(folder: &Path, name: &str, why: &str) -> DataError {
    DataError::Template {
        name: folder.join(name).display().to_string(),
        why: format!("{why}; choose a built-in one with `template` in [data]: {}", Builtin::names()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_before_the_configuration_and_a_processors_file_last() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let found = || Found::in_folder(folder.path()).map(Option::unwrap);
        assert!(Found::in_folder(folder.path()).unwrap().is_none());
        write(PROCESSOR, r#"{"chat_template": "processor"}"#);
        assert_eq!(found().unwrap().default, "processor");
        write(
            CONFIG,
            r#"{"chat_template": [{"name": "default", "template": "list"}, {"name": "../rag", "template": "x"}]}"#,
        );
        assert_eq!((found().unwrap().default.as_str(), found().unwrap().named.len()), ("list", 0));
        write(CONFIG, r#"{"chat_template": {"default": "object", "tool_use": "tools"}}"#);
        assert_eq!(found().unwrap().named["tool_use"], "tools");
        std::fs::create_dir(folder.path().join(NAMED_FILES)).unwrap();
        write("additional_chat_templates/tool_use.jinja", "tool file");
        assert!(found().unwrap_err().to_string().contains("called `default`"));
        write("additional_chat_templates/rag.jinja", "rag file");
        write("additional_chat_templates/README.md", "no template");
        write(FILE, "file");
        let all = found().unwrap();
        let named: Vec<_> = all.named.iter().map(|(name, source)| (name.as_str(), source.as_str())).collect();
        assert!(all.other.is_none(), "a list is not compared");
        assert_eq!((all.default.as_str(), &named[..]), ("file", &[("rag", "rag file"), ("tool_use", "tool file")][..]));
    }

    #[test]
    fn another_template_in_the_configuration_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(FILE, "file");
        let other = || Found::in_folder(folder.path()).unwrap().unwrap().other;
        assert_eq!(other(), None);
        write(CONFIG, r#"{"chat_template": "file"}"#);
        assert_eq!(other(), None);
        write(CONFIG, r#"{"chat_template": "config"}"#);
        assert!(other().unwrap().ends_with(CONFIG));
    }

    #[test]
    fn what_is_no_template_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for wrong in
            [r#"{"chat_template": 3}"#, r#"{"chat_template": []}"#, r#"{"chat_template": [{"name": "default"}]}"#]
        {
            std::fs::write(folder.path().join(CONFIG), wrong).unwrap();
            let error = Found::in_folder(folder.path()).unwrap_err().to_string();
            assert!(error.contains(CONFIG) && error.contains("chatml"), "{error}");
        }
    }
}
