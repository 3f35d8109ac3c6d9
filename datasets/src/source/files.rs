//! The files of a source: [`expand`] finds what a recipe's `path` names, which is a file, a glob, a folder or a dataset
//! of a hub. In a folder the names of the files say which are of the split (`splits`); a file that is named, or matched by
//! a glob, is taken. Files are sorted by name, because the order of rows identifies a run.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::columns::Columns;
use super::folder;
use super::layout::{Layout, is_picture};
use super::pictures;
use super::remote::{Fetch, Repository, SCHEME};
use super::splits::{self, listed};
use crate::config::Split;
use crate::error::DataError;

/// The files of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Their paths, in the order in which they are read.
    pub files: Vec<PathBuf>,
    /// Which files of a folder or a dataset are read and which are not, as a sentence; absent where the path names a file.
    pub note: Option<String>,
    /// What pictures have beside them, for models that read pictures.
    pub pictures: Option<Layout>,
}

/// The data files that `pattern` names; a relative one is looked up in `base`. For a dataset of a hub, `fetch`
/// downloads the files of `split`. `columns` are those that the source renames. For a model that reads `pictures`, files of
/// pictures are data files.
///
/// # Errors
/// When no file is found, or a file's ending is not that of a data file.
pub fn expand(
    pattern: &str,
    columns: &Columns,
    base: &Path,
    split: Split,
    fetch: &dyn Fetch,
    pictures: bool,
) -> Result<Found, DataError> {
    let path = base.join(pattern);
    if pictures
        && path.is_dir()
        && let Some((choice, layout)) = folder::pictures(&path, pattern, split)?
    {
        let files = choice.taken.iter().map(|name| path.join(name)).collect();
        return Ok(Found { files, note: Some(pictures::said(&choice, layout)), pictures: Some(layout) });
    }
    let found =
        rows(pattern, columns, base, split, fetch, &|path| super::is_data_file(path) || pictures && is_picture(path))?;
    Ok(Found { pictures: pictures.then(Layout::default), ..found })
}

/// The same for files of rows; `is_data` says which files are.
fn rows(
    pattern: &str,
    columns: &Columns,
    base: &Path,
    split: Split,
    fetch: &dyn Fetch,
    is_data: &dyn Fn(&Path) -> bool,
) -> Result<Found, DataError> {
    let error = |why: String| DataError::Source { path: pattern.to_string(), why };
    if let Some(address) = pattern.strip_prefix(SCHEME) {
        let repository = Repository::parse(address).map_err(error)?;
        let said = RefCell::new(None);
        let choose = |names: &[&str]| {
            let choice = repository.choice(names, split)?;
            said.replace(Some(choice.said()));
            Ok(choice.taken)
        };
        let files = fetch.fetch(&repository, &choose).map_err(error)?;
        return Ok(Found { files, note: said.take(), pictures: None });
    }
    if let Some((scheme, _)) = pattern.split_once("://") {
        return Err(error(format!("`{scheme}://` is no place to read from; name files, or hf://datasets/owner/name")));
    }
    let path = base.join(pattern);
    if path.is_dir() {
        let choice = folder::choose(&path, pattern, columns, split)?;
        let files = choice.taken.iter().map(|name| path.join(name)).collect();
        return Ok(Found { files, note: Some(choice.said()), pictures: None });
    }
    if path.is_file() {
        return Ok(Found { files: vec![path], note: None, pictures: None });
    }
    if !pattern.contains(['*', '?', '[']) {
        return Err(error(format!("no such file or folder (looked for {})", path.display())));
    }
    let escaped = glob::Pattern::escape(&base.to_string_lossy());
    let whole = Path::new(&escaped).join(pattern);
    let entries =
        glob::glob(&whole.to_string_lossy()).map_err(|problem| error(format!("not a valid glob: {problem}")))?;
    let (mut found, mut folders, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            // A link that leads nowhere, or a circle of links.
            Err(problem) if problem.path().metadata().is_err() => continue,
            Err(problem) => {
                return Err(DataError::Read { path: problem.path().to_path_buf(), source: problem.into() });
            }
        };
        // Links may form a circle; each file is read once.
        if seen.insert(entry.canonicalize().unwrap_or_else(|_| entry.clone())) {
            if entry.is_file() { found.push(entry) } else { folders.push(entry) }
        }
    }
    found.sort();
    matched(found, folders, columns, split, is_data).map_err(|problem| match problem {
        Unmatched::Nothing => error("no file matches".to_string()),
        Unmatched::Folder(problem) => problem,
    })
}

/// Why a glob gives no files.
enum Unmatched {
    Nothing,
    Folder(DataError),
}

/// The data files that a glob matched; where it matched none, those of the folders that it matched.
fn matched(
    found: Vec<PathBuf>,
    mut folders: Vec<PathBuf>,
    columns: &Columns,
    split: Split,
    is_data: &dyn Fn(&Path) -> bool,
) -> Result<Found, Unmatched> {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let holds_no_rows = |path: &PathBuf| {
        let name = name(path);
        name.starts_with('.') || splits::is_about(&name) || !is_data(path)
    };
    let (about, files): (Vec<PathBuf>, Vec<PathBuf>) = found.into_iter().partition(holds_no_rows);
    if files.is_empty() {
        folders.sort();
        let mut all = Found::default();
        for folder in folders {
            let choice =
                folder::choose(&folder, &folder.display().to_string(), columns, split).map_err(Unmatched::Folder)?;
            all.files.extend(choice.taken.iter().map(|name| folder.join(name)));
            let said = format!("of {} {}", folder.display(), choice.said());
            all.note = Some(all.note.map_or(said.clone(), |before| format!("{before}; {said}")));
        }
        return if all.files.is_empty() { Err(Unmatched::Nothing) } else { Ok(all) };
    }
    let is_seen = |path: &&PathBuf| super::is_data_file(path) && !name(path).starts_with('.');
    let about: Vec<String> = about.iter().filter(is_seen).map(name).collect();
    let states: BTreeSet<_> = files.iter().filter_map(|path| splits::said(&name(path)).ok().flatten()).collect();
    let mut note = Vec::new();
    if states.len() > 1 {
        note.push(format!(
            "reads {}: their names say that they are of several splits, and a glob takes all that it matches",
            listed(&files.iter().map(name).collect::<Vec<_>>())
        ));
    }
    if !about.is_empty() {
        note.push(format!("passes over {}, which hold no rows", listed(&about)));
    }
    Ok(Found { files, note: (!note.is_empty()).then(|| note.join("; ")), pictures: None })
}

/// Whether a path is an address on a hub and not a local path.
pub fn is_remote(path: &str) -> bool {
    path.starts_with(SCHEME)
}

#[cfg(test)]
mod tests {
    use super::super::NoFetch;
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.jsonl", "a.jsonl", "c.csv", "notes.md"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        dir
    }

    fn found(pattern: &str, base: &Path) -> Result<Found, DataError> {
        expand(pattern, &Columns::none(), base, Split::Train, &NoFetch, false)
    }

    fn names(pattern: &str, base: &Path) -> Vec<String> {
        found(pattern, base)
            .unwrap()
            .files
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn files_globs_and_folders_are_found_in_name_order() {
        let dir = folder();
        assert_eq!(names("b.jsonl", dir.path()), ["b.jsonl"]);
        assert_eq!(names("*.jsonl", dir.path()), ["a.jsonl", "b.jsonl"]);
        assert_eq!(names(".", dir.path()), ["a.jsonl", "b.jsonl", "c.csv"]);
        let whole = dir.path().join("?.jsonl");
        assert_eq!(names(&whole.to_string_lossy(), Path::new(".")), ["a.jsonl", "b.jsonl"]);
    }

    #[test]
    fn what_a_folder_holds_beside_rows_is_left_out() {
        let dir = folder();
        for name in ["dataset_info.json", "state.json", ".hidden.jsonl", "._a.jsonl"] {
            std::fs::write(dir.path().join(name), "{}").unwrap();
        }
        assert_eq!(names(".", dir.path()), ["a.jsonl", "b.jsonl", "c.csv"]);
        // A glob passes over them too.
        let matched = found("*.json*", dir.path()).unwrap();
        assert_eq!(matched.files.len(), 2);
        assert_eq!(matched.note.unwrap(), "passes over dataset_info.json, state.json, which hold no rows");
        assert_eq!(found("a.jsonl", dir.path()).unwrap().note, None);
    }

    #[test]
    fn a_glob_takes_what_it_matches_and_says_where_that_is_of_several_splits() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one/train.jsonl", "one/test.jsonl", "two/train.jsonl"] {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), "{}").unwrap();
        }
        let both = found("one/*.jsonl", dir.path()).unwrap();
        assert_eq!(both.files.len(), 2);
        assert!(both.note.unwrap().contains("of several splits"));
        // Folders that a glob names are read as folders.
        let folders = found("*", dir.path()).unwrap();
        assert_eq!(folders.files, [dir.path().join("one/train.jsonl"), dir.path().join("two/train.jsonl")]);
        assert!(folders.note.unwrap().contains("leaves out test.jsonl"));
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_are_followed_once() {
        let dir = folder();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("below/up")).unwrap();
        assert_eq!(names("**/*.jsonl", dir.path()), ["a.jsonl", "b.jsonl"]);
    }

    #[test]
    fn what_is_not_there_is_an_error_that_names_it() {
        let dir = folder();
        for pattern in ["gone.jsonl", "gone-*.jsonl", "hf://datasets/a/b", "hf://a/b", "s3://x"] {
            let error = found(pattern, dir.path()).unwrap_err().to_string();
            assert!(error.contains(pattern), "{error}");
        }
    }
}
