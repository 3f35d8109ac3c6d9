//! Where the files a recipe names are: relative to the current directory first, else to the recipe's folder.
//!
//! A path that leads nowhere is an error here, before anything is loaded. The run directory is not an input: it is
//! always relative to the current directory.

use std::path::{Component, Path, PathBuf};

use firebrand_datasets::TemplateChoice;
use firebrand_datasets::source::is_remote;

use super::adapter::AdapterSection;
use super::document::Document;
use super::error::{ComplaintKind, RecipeError};
use super::file::RecipeFile;
use super::model::ModelSource;

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
pub(super) fn resolve(
    file: &mut RecipeFile,
    document: &Document,
    folders: Folders<'_>,
) -> Result<ModelSource, RecipeError> {
    let model = find_model(&file.model, document, folders)?;
    let adapter = file.adapter.as_mut().and_then(AdapterSection::init_from_mut);
    if let Some(path) = adapter {
        *path = find(path, "adapter.init_from", document, folders)?;
    }
    if let TemplateChoice::File(path) = &mut file.data.template {
        *path = find(path, "data.template", document, folders)?;
    }
    for (split, sources) in [("train", &mut file.data.train), ("eval", &mut file.data.eval)] {
        for (index, source) in sources.iter_mut().enumerate() {
            if is_remote(&source.path) {
                continue;
            }
            let key = format!("data.{split}.{index}.path");
            let path = find(Path::new(&source.path), &key, document, folders)?;
            source.path = path.display().to_string();
        }
    }
    Ok(model)
}

fn find_model(text: &str, document: &Document, folders: Folders<'_>) -> Result<ModelSource, RecipeError> {
    match (folders.find(Path::new(text)), ModelSource::hub_id(text)) {
        (Ok(path), _) => Ok(ModelSource::Local(path)),
        (Err(_), Some(hub)) => Ok(hub),
        (Err(tried), None) => Err(document
            .at_key(ComplaintKind::NotFound, "model")
            .message(format!("there is no model at {text}"))
            .label("neither a folder nor a hub id")
            .advice(format!("looked for {}; a hub id is owner/name or owner/name@revision", either(&tried)))
            .into()),
    }
}

fn find(path: &Path, key: &str, document: &Document, folders: Folders<'_>) -> Result<PathBuf, RecipeError> {
    folders.find(path).map_err(|tried| {
        let help = match key {
            "data.template" => format!(
                "looked for {}; other values are \"model\" and the names of built-in templates: {}",
                either(&tried),
                builtin_templates()
            ),
            _ => format!("looked for {}", either(&tried)),
        };
        document
            .at_key(ComplaintKind::NotFound, key)
            .message(format!("`{key}`: there is no {}", path.display()))
            .label("not found")
            .advice(help)
            .into()
    })
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
