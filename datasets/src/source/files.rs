//! The files of a source: [`expand`] finds what a recipe's `path` names, which is a file, a glob, a folder (its data
//! files, without subfolders) or a dataset of a hub. Files are sorted by name, because the order of rows identifies a
//! run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::remote::{Fetch, Repository, SCHEME};
use crate::config::Split;
use crate::error::DataError;

/// The data files that `pattern` names; a relative one is looked up in `base`. For a dataset of a hub, `fetch`
/// downloads the files of `split`.
///
/// # Errors
/// When no file is found, or a file's ending is not that of a data file.
pub fn expand(pattern: &str, base: &Path, split: Split, fetch: &dyn Fetch) -> Result<Vec<PathBuf>, DataError> {
    let error = |why: String| DataError::Source { path: pattern.to_string(), why };
    if let Some(address) = pattern.strip_prefix(SCHEME) {
        let repository = Repository::parse(address).map_err(error)?;
        let choose = |names: &[&str]| repository.choose(names, split);
        return fetch.fetch(&repository, &choose).map_err(error);
    }
    if let Some((scheme, _)) = pattern.split_once("://") {
        return Err(error(format!("`{scheme}://` is no place to read from; name files, or hf://datasets/owner/name")));
    }
    let path = base.join(pattern);
    if path.is_dir() {
        let entries = std::fs::read_dir(&path).map_err(|source| DataError::Read { path: path.clone(), source })?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| DataError::Read { path: path.clone(), source })?;
            let name = entry.file_name();
            let about = name.to_str().is_none_or(|name| name.starts_with('.') || ABOUT.contains(&name));
            if !about && entry.path().is_file() && super::reader_of(&entry.path()).is_some() {
                found.push(entry.path());
            }
        }
        return sorted(found).ok_or_else(|| match path.join(SPLITS).is_file() {
            true => error("the folder holds several splits of a dataset; name the folder of one of them".into()),
            false => error(format!("the folder holds no data file ({})", super::endings())),
        });
    }
    if path.is_file() {
        return Ok(vec![path]);
    }
    if !pattern.contains(['*', '?', '[']) {
        return Err(error(format!("no such file or folder (looked for {})", path.display())));
    }
    let base = glob::Pattern::escape(&base.to_string_lossy());
    let whole = Path::new(&base).join(pattern);
    let entries =
        glob::glob(&whole.to_string_lossy()).map_err(|problem| error(format!("not a valid glob: {problem}")))?;
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
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
        if entry.is_file() && seen.insert(entry.canonicalize().unwrap_or_else(|_| entry.clone())) {
            found.push(entry);
        }
    }
    sorted(found).ok_or_else(|| error("no file matches".to_string()))
}

/// Files in a dataset's folders that hold no rows.
const ABOUT: [&str; 4] = ["dataset_info.json", "dataset_infos.json", "state.json", SPLITS];
const SPLITS: &str = "dataset_dict.json";

fn sorted(mut files: Vec<PathBuf>) -> Option<Vec<PathBuf>> {
    files.sort();
    (!files.is_empty()).then_some(files)
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

    fn names(pattern: &str, base: &Path) -> Vec<String> {
        expand(pattern, base, Split::Train, &NoFetch)
            .unwrap()
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
        let splits = tempfile::tempdir().unwrap();
        std::fs::write(splits.path().join("dataset_dict.json"), "{}").unwrap();
        let error = expand(".", splits.path(), Split::Train, &NoFetch).unwrap_err().to_string();
        assert!(error.contains("several splits"), "{error}");
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
            let error = expand(pattern, dir.path(), Split::Train, &NoFetch).unwrap_err().to_string();
            assert!(error.contains(pattern), "{error}");
        }
    }
}
