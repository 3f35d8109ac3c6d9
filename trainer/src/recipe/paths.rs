//! Where the files a recipe names are: relative to the current directory first, else to the recipe's folder.
//!
//! A first `~` is the user's home folder. A path that leads nowhere is an error here, before anything is loaded. The run directory is not an input: it is
//! always relative to the current directory.

use std::path::{Component, Path, PathBuf};

use firebrand_datasets::TemplateChoice;
use firebrand_datasets::source::is_remote;

use super::adapter::AdapterSection;
use super::document::{Document, Value};
use super::error::{Complaint, ComplaintKind};
use super::file::RecipeFile;
use super::model::ModelSource;
use super::objective::ObjectiveSection;
use crate::home;

/// The two folders a relative path may start from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folders<'a> {
    /// Empty = the process's own.
    pub current: &'a Path,
    /// Of the recipe.
    pub recipe: &'a Path,
}

impl Folders<'_> {
    /// The first of the two places where `path` exists, else both. A pattern exists where it matches something, else where
    /// its beginning does.
    fn find(&self, path: &Path) -> Result<PathBuf, Vec<PathBuf>> {
        let mut tried = Vec::new();
        let mut begun = None;
        for folder in [self.current, self.recipe] {
            let candidate = plain(&folder.join(path));
            if candidate.exists() {
                return Ok(candidate);
            }
            let existing = existing_part(&candidate, folder);
            if has_wildcard(path) && (existing.as_os_str().is_empty() || existing.exists()) {
                let pattern = as_pattern(candidate.clone(), folder);
                if glob::glob(&pattern.to_string_lossy()).is_ok_and(|mut found| found.next().is_some()) {
                    return Ok(pattern);
                }
                begun = begun.or(Some(pattern));
            }
            if !tried.contains(&candidate) {
                tried.push(candidate);
            }
        }
        begun.ok_or(tried)
    }
}

/// Finds every input of the recipe and writes the found path into it. Returns the model.
///
/// # Errors
/// Every input that is not there.
pub(super) fn resolve(
    file: &mut RecipeFile,
    document: &Document,
    folders: Folders<'_>,
) -> Result<ModelSource, Vec<Complaint>> {
    let mut lost = vec![];
    let mut find = |path: &Path, key: &str| match find(path, key, document, folders) {
        Ok(found) => found,
        Err(complaint) => {
            lost.push(complaint);
            path.to_path_buf()
        }
    };
    file.output = home::expanded(&file.output);
    let model = find_model(&home::expanded_text(&file.model), "model", document, folders);
    let adapter = file.adapter.as_mut().and_then(AdapterSection::init_from_mut);
    if let Some(path) = adapter {
        *path = find(path, "adapter.init_from");
    }
    let mut no_other = None;
    if let Some(ObjectiveSection::Distill(distill)) = &mut file.objective {
        // The cache is written by `distill cache`: like the run directory it need not be there.
        distill.cache = distill.cache.as_deref().map(|path| written(path, folders));
        if let Some(teacher) = &mut distill.teacher {
            match find_model(&home::expanded_text(teacher), "objective.teacher", document, folders) {
                Ok(found) => *teacher = found.to_string(),
                Err(complaint) => no_other = Some(complaint),
            }
        }
    }
    if let Some(ObjectiveSection::Dpo(dpo)) = &mut file.objective {
        dpo.reference_cache = dpo.reference_cache.as_deref().map(|path| written(path, folders));
    }
    if let Some(ObjectiveSection::Dpo(dpo)) = &mut file.objective
        && let Some(reference) = dpo.model()
    {
        match find_model(&home::expanded_text(reference), "objective.reference", document, folders) {
            Ok(found) => dpo.reference = found.to_string(),
            Err(complaint) => no_other = Some(complaint),
        }
    }
    if let TemplateChoice::File(path) = &mut file.data.template {
        *path = find(path, "data.template");
    }
    for (split, sources) in [("train", &mut file.data.train), ("eval", &mut file.data.eval)] {
        for (index, source) in sources.iter_mut().enumerate() {
            if is_remote(&source.path) {
                continue;
            }
            let key = format!("data.{split}.{index}.path");
            let path = find(Path::new(&source.path), &key);
            source.path = path.display().to_string();
        }
    }
    lost.extend(no_other);
    match model {
        Ok(model) if lost.is_empty() => Ok(model),
        Ok(_) => Err(lost),
        Err(complaint) => {
            lost.insert(0, complaint);
            Err(lost)
        }
    }
}

/// The inputs that are not there, of a recipe that cannot be read for other reasons.
pub(super) fn lost(document: &Document, folders: Folders<'_>) -> Vec<Complaint> {
    let text = |key: &str| match document.get(key).map(|node| &node.value) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let models = ["model", "objective.teacher"]
        .into_iter()
        .filter_map(|key| find_model(&home::expanded_text(&text(key)?), key, document, folders).err());
    let models: Vec<Complaint> = models.collect();
    let template = text("data.template").filter(|name| matches!(name.clone().into(), TemplateChoice::File(_)));
    let mut inputs =
        vec![("adapter.init_from".to_owned(), text("adapter.init_from")), ("data.template".into(), template)];
    for split in ["train", "eval"] {
        let count = match document.get(&format!("data.{split}")).map(|node| &node.value) {
            Some(Value::Array(items)) => items.len(),
            _ => 0,
        };
        let keys = (0..count).map(|index| format!("data.{split}.{index}.path"));
        inputs.extend(keys.map(|key| (key.clone(), text(&key).filter(|path| !is_remote(path)))));
    }
    let inputs = inputs.into_iter().filter_map(|(key, path)| find(Path::new(&path?), &key, document, folders).err());
    models.into_iter().chain(inputs).collect()
}

/// A folder that this program writes: where it lies already, else in the current directory.
fn written(path: &Path, folders: Folders<'_>) -> PathBuf {
    let path = home::expanded(path);
    folders.find(&path).unwrap_or_else(|_| plain(&folders.current.join(&path)))
}

fn find_model(text: &str, key: &str, document: &Document, folders: Folders<'_>) -> Result<ModelSource, Complaint> {
    match (folders.find(Path::new(text)), ModelSource::hub_id(text)) {
        (Ok(path), _) => Ok(ModelSource::Local(path)),
        (Err(_), Some(hub)) => Ok(hub),
        (Err(tried), None) => Err(document
            .at_key(ComplaintKind::NotFound, key)
            .message(format!("there is no model at {text}"))
            .label("neither a folder nor a hub id")
            .advice(match slip(Path::new(text), folders) {
                Some(slip) => format!("{slip}\nlooked for {}", either(&tried)),
                None => {
                    format!("looked for {}; a hub id is owner/name or owner/name@revision", either(&tried))
                }
            })),
    }
}

fn find(path: &Path, key: &str, document: &Document, folders: Folders<'_>) -> Result<PathBuf, Complaint> {
    let path = &home::expanded(path);
    folders.find(path).map_err(|tried| {
        let help = match key {
            "data.template" => format!(
                "looked for {}; other values are \"model\" and the names of built-in templates: {}",
                either(&tried),
                builtin_templates()
            ),
            _ => format!("looked for {}", either(&tried)),
        };
        let help = match slip(path, folders) {
            Some(slip) => format!("{slip}\n{help}"),
            None => help,
        };
        document
            .at_key(ComplaintKind::NotFound, key)
            .message(format!("`{key}`: there is no {}", path.display()))
            .label("not found")
            .advice(help)
    })
}

/// What a path that leads nowhere was probably meant to be.
fn slip(path: &Path, folders: Folders<'_>) -> Option<String> {
    let text = path.to_str()?;
    if let Some(rest) = text.strip_prefix("file://") {
        return Some(format!("write the path without `file://`: {rest}"));
    }
    if text.starts_with('$') || text.starts_with('%') && text.matches('%').count() > 1 || text.contains("${") {
        return Some("environment variables are not replaced in recipes: write the path itself".into());
    }
    if text.starts_with('~') {
        return Some("only a first `~` alone is replaced by your home folder: write the path itself".into());
    }
    if cfg!(not(windows)) && text.contains('\\') {
        let slashes = text.replace('\\', "/");
        return Some(match folders.find(Path::new(&slashes)) {
            Ok(_) => format!("folders are separated by `/` here: write {slashes}"),
            Err(_) => "folders are separated by `/` here, and drives such as `C:` are no part of a path".into(),
        });
    }
    None
}

fn builtin_templates() -> String {
    let names: Vec<&str> = firebrand_datasets::Builtin::ALL.iter().map(|builtin| builtin.name()).collect();
    names.join(", ")
}

/// The part of a path before the first wildcard, which must exist for a glob to find anything. What stands in the name
/// of `folder` is none. Empty: the current directory.
fn existing_part(path: &Path, folder: &Path) -> PathBuf {
    let within = plain(folder).components().count();
    let is_plain = |(index, part): &(usize, Component<'_>)| *index < within || !has_wildcard(Path::new(part));
    path.components().enumerate().take_while(is_plain).map(|(_, part)| part).collect()
}

/// A path with wildcards is read as a pattern from its beginning, so the name of the folder before it is written as one.
fn as_pattern(path: PathBuf, folder: &Path) -> PathBuf {
    let folder = plain(folder);
    match path.strip_prefix(&folder) {
        Ok(below) if has_wildcard(&folder) && has_wildcard(below) && !path.exists() => {
            Path::new(&glob::Pattern::escape(&folder.to_string_lossy())).join(below)
        }
        _ => path,
    }
}

fn has_wildcard(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

/// Without `./` parts, so that messages and resolved recipes are short; the current directory itself stays `.`.
fn plain(path: &Path) -> PathBuf {
    let plain: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    if plain.as_os_str().is_empty() && !path.as_os_str().is_empty() { PathBuf::from(".") } else { plain }
}

fn either(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" and ")
}
