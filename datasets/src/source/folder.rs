//! Folders on disk as sources: [`choose`] finds the files of a split in one, as `splits` tells it.
//!
//! The data files directly in the folder are its rows. Subfolders are looked at where there are none, or none of the
//! split: `data/train-00000-of-00001.parquet` below a dataset's root, or `train/` and `test/` side by side.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::columns::Columns;
use super::layout::{Layout, is_picture};
use super::pictures;
use super::splits::{self, Choice, Formats};
use crate::config::Split;
use crate::error::DataError;

/// Number of levels of subfolders that are looked at: a cache of a hub has its files in the fourth.
const DEEPEST: usize = 6;
/// Number of files after which a folder is taken for something else than a dataset.
const MOST: usize = 100_000;
/// Size in bytes of the largest `.json` file that is read to see whether it holds settings.
const SETTINGS: u64 = 1 << 20;

/// The files of `split` in the folder `path`; `pattern` is the folder as the recipe names it. Paths are relative to the
/// folder.
///
/// # Errors
/// When there is no data, none of this split, or the files may be several datasets.
pub(super) fn choose(path: &Path, pattern: &str, columns: &Columns, split: Split) -> Result<Choice, DataError> {
    let error = |why: String| DataError::Source { path: pattern.to_string(), why };
    let within = format!("{}/", pattern.trim_end_matches('/'));
    let of = |names: &[String]| {
        let (rows, settings) = without_settings(path, names, columns);
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let mut choice = splits::choose(&rows, split, Formats::Mixed, &within)?;
        choice.about.extend(settings);
        choice.about.sort();
        Ok::<Choice, String>(choice)
    };
    let mut files = Vec::new();
    list(path, "", 0, 0, &super::is_data_file, &mut files)?;
    let top = match files.iter().any(|name| !splits::sorted_out(&[name]).0.is_empty()) {
        true => Some(of(&files)),
        false => None,
    };
    match top {
        Some(Ok(choice)) => Ok(choice),
        top => {
            let mut all = Vec::new();
            list(path, "", 0, DEEPEST, &super::is_data_file, &mut all)?;
            match (of(&all), top) {
                (Ok(choice), _) => Ok(choice),
                // What stands at the top is what the folder is about.
                (Err(_), Some(Err(why))) | (Err(why), _) => Err(error(why)),
            }
        }
    }
}

/// The pictures of `split` in the folder `path`, where it holds pictures and no table of their rows; else absent.
///
/// # Errors
/// When there is no picture of this split.
pub(super) fn pictures(path: &Path, pattern: &str, split: Split) -> Result<Option<(Choice, Layout)>, DataError> {
    let is_wanted = |name: &Path| is_picture(name) || super::is_data_file(name);
    let mut names = Vec::new();
    list(path, "", 0, DEEPEST, &is_wanted, &mut names)?;
    let is_table = |name: &String| {
        let name = Path::new(name);
        super::is_data_file(name) && super::read_as(name) != "txt" && super::read_as(name) != "json"
    };
    if names.iter().any(is_table) {
        return Ok(None);
    }
    pictures::choose(&names, split).map_err(|why| DataError::Source { path: pattern.to_string(), why })
}

/// The names of the `wanted` files below `root/below`, relative to `root`, with those of `deepest` levels of subfolders.
fn list(
    root: &Path,
    below: &str,
    depth: usize,
    deepest: usize,
    wanted: &dyn Fn(&Path) -> bool,
    found: &mut Vec<String>,
) -> Result<(), DataError> {
    let folder: PathBuf = root.join(below);
    let unreadable = |source| DataError::Read { path: folder.clone(), source };
    let mut entries =
        std::fs::read_dir(&folder).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let name = if below.is_empty() { name } else { format!("{below}/{name}") };
        // A link to a folder is not followed, because links may form a circle; a link to a file is a file.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && depth < deepest {
            list(root, &name, depth + 1, deepest, wanted, found)?;
        } else if !is_folder && wanted(Path::new(&name)) && entry.path().is_file() {
            if found.len() == MOST {
                let why = format!("the folder holds more than {MOST} data files; name those of one dataset by a glob");
                return Err(DataError::Source { path: root.display().to_string(), why });
            }
            found.push(name);
        }
    }
    Ok(())
}

/// The names without those of `.json` files that hold settings and no rows, and the names of these. Where nothing else
/// is there, they are rows that nobody can read, and said to be so when they are read.
fn without_settings(root: &Path, names: &[String], columns: &Columns) -> (Vec<String>, Vec<String>) {
    let (settings, rows): (Vec<String>, Vec<String>) =
        names.iter().cloned().partition(|name| is_settings(&root.join(name), columns));
    let left: Vec<&str> = rows.iter().map(String::as_str).collect();
    match splits::sorted_out(&left).0.is_empty() {
        true => (names.to_vec(), Vec::new()),
        false => (rows, settings),
    }
}

/// Whether a `.json` file is one object without a column that rows begin with and without a list of objects, or a list
/// without objects.
fn is_settings(path: &Path, columns: &Columns) -> bool {
    const ROWS: [&str; 9] =
        ["messages", "conversations", "prompt", "text", "instruction", "chosen", "input_ids", "prompt_ids", "tensors"];
    let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    if !is_json || std::fs::metadata(path).map_or(true, |metadata| metadata.len() > SETTINGS) {
        return false;
    }
    let value = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let is_row = |key: &String| ROWS.contains(&key.as_str()) || columns.renames(key);
    match value {
        Some(Value::Object(object)) => {
            let lists = |value: &Value| value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
            !object.keys().any(is_row) && !object.values().any(lists)
        }
        Some(Value::Array(items)) => !items.is_empty() && !items.iter().any(Value::is_object),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "{\"prompt\": \"q\", \"completion\": \"a\"}\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        dir
    }

    fn chosen(files: &[(&str, &str)], split: Split) -> Result<Choice, String> {
        let dir = folder(files);
        choose(dir.path(), "rows", &Columns::none(), split).map_err(|error| error.to_string())
    }

    #[test]
    fn splits_side_by_side_are_told_apart() {
        let files = [("train.jsonl", ROW), ("valid.jsonl", ROW), ("test.jsonl", ROW), (".gitattributes", "x")];
        assert_eq!(chosen(&files, Split::Train).unwrap().taken, ["train.jsonl"]);
        assert_eq!(chosen(&files, Split::Eval).unwrap().taken, ["valid.jsonl"]);
        assert_eq!(chosen(&files[..1], Split::Train).unwrap().taken, ["train.jsonl"]);
        let none = chosen(&files[..1], Split::Eval).unwrap_err();
        assert!(none.starts_with("rows: no name says that it is of an evaluation split"), "{none}");
    }

    #[test]
    fn a_root_without_data_leads_to_the_folder_that_has_it() {
        let files = [
            ("README.md", "# card"),
            ("dataset_infos.json", "{}"),
            ("data/train-0.jsonl", ROW),
            ("data/test-0.jsonl", ROW),
        ];
        let choice = chosen(&files, Split::Train).unwrap();
        assert_eq!(choice.taken, ["data/train-0.jsonl"]);
        assert_eq!(choice.others, ["data/test-0.jsonl"]);
        let several = chosen(&[("en/train.jsonl", ROW), ("fr/train.jsonl", ROW)], Split::Train).unwrap_err();
        assert!(several.contains("(en, fr); say which by a path or a glob, as in rows/en/train.jsonl"), "{several}");
        let beside = [("train.jsonl", ROW), ("test/rows.jsonl", ROW)];
        assert_eq!(chosen(&beside, Split::Train).unwrap().taken, ["train.jsonl"]);
        assert_eq!(chosen(&beside, Split::Eval).unwrap().taken, ["test/rows.jsonl"]);
    }

    #[test]
    fn files_that_hold_no_rows_are_passed_over_and_named() {
        let files = [
            ("rows.jsonl", ROW),
            ("lr.json", "{\"lr\": 1, \"output\": \"runs\"}"),
            ("ids.json", "[1, 2]"),
            ("list.json", "[{\"prompt\": \"q\", \"completion\": \"a\"}]"),
            ("about.txt", "text"),
        ];
        let choice = chosen(&files, Split::Train).unwrap();
        assert_eq!(choice.taken, ["list.json", "rows.jsonl"]);
        assert_eq!(choice.about, ["about.txt", "ids.json", "lr.json"]);
        // Files of one row each.
        let rows = [("1.json", "{\"q\": 1}"), ("2.json", "{\"q\": 2}")];
        assert_eq!(chosen(&rows, Split::Train).unwrap().taken, ["1.json", "2.json"]);
    }
}
