//! Datasets of a hub, `hf://datasets/owner/name[/path][@revision]`: [`Repository`] parses an address and chooses which
//! files of a repository hold the rows of a split. The caller downloads them ([`Fetch`]), because this crate has no
//! network access.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::is_data_file;
use crate::config::Split;

/// The beginning of every address on a hub.
pub(super) const SCHEME: &str = "hf://";

/// A dataset of a hub, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `owner/name`.
    pub name: String,
    /// Branch, tag or commit; absent: the default branch.
    pub revision: Option<String>,
    /// A file, folder or glob in it; absent: all of it.
    pub path: Option<String>,
}

/// Downloads files of a hub.
pub trait Fetch {
    /// Makes the files local that `choose` takes from the names of all files of `repository`, and returns their paths.
    ///
    /// # Errors
    /// A message that says what went wrong and what to do.
    fn fetch(&self, repository: &Repository, choose: &Choose<'_>) -> Result<Vec<PathBuf>, String>;
}

/// Chooses the wanted files from the names of all files.
pub type Choose<'a> = dyn Fn(&[&str]) -> Result<Vec<String>, String> + 'a;

/// Refuses all addresses of hubs.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFetch;

impl Fetch for NoFetch {
    fn fetch(&self, _: &Repository, _: &Choose<'_>) -> Result<Vec<PathBuf>, String> {
        Err("nothing is fetched from a hub here; download the files and name them".into())
    }
}

impl Repository {
    /// Parses what follows `hf://`.
    ///
    /// # Errors
    /// A sentence that says why the text names no dataset.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let form = "an address is hf://datasets/owner/name, with /path and @revision where needed";
        let rest = text.strip_prefix("datasets/").ok_or_else(|| format!("it is no dataset: {form}"))?;
        let (before, after) = match rest.split_once('@') {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let mut parts = before.splitn(3, '/');
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else {
            return Err(format!("it names no owner: {form}"));
        };
        let mut path = parts.next().map(str::to_string);
        let revision = match (after, &path) {
            (None, _) => None,
            (Some(revision), Some(_)) => Some(revision.to_string()),
            // owner/name@revision/path, where refs/pr/3 and the like are one revision.
            (Some(after), None) => {
                let depth = if after.starts_with("refs/") { 3 } else { 1 };
                let cut = after.match_indices('/').nth(depth - 1).map(|(at, _)| at);
                path = cut.map(|at| after[at + 1..].to_string());
                Some(after[..cut.unwrap_or(after.len())].to_string())
            }
        };
        let path = path.map(|path| path.trim_matches('/').to_string()).filter(|path| !path.is_empty());
        if owner.is_empty() || name.is_empty() || revision.as_ref().is_some_and(String::is_empty) {
            return Err(format!("a part of it is empty: {form}"));
        }
        if path.as_ref().is_some_and(|path| path.split('/').any(|part| matches!(part, "" | "." | ".."))) {
            return Err("its path leads out of the repository".into());
        }
        Ok(Self { name: format!("{owner}/{name}"), revision, path })
    }

    /// The files among `names` that hold the rows of `split`: the named file, or all files that a glob matches; else
    /// the files whose names state the split (`train`, `validation`, `test`), or all where no name states one.
    ///
    /// # Errors
    /// A message when there is no data, or when the files may be several datasets.
    pub fn choose(&self, names: &[&str], split: Split) -> Result<Vec<String>, String> {
        let data: Vec<&str> = names.iter().copied().filter(|name| is_rows(name)).collect();
        let found = match &self.path {
            None => data,
            Some(path) if data.contains(&path.as_str()) => return Ok(vec![path.clone()]),
            Some(path) if path.contains(['*', '?', '[']) => {
                let glob = glob::Pattern::new(path).map_err(|problem| format!("not a valid glob: {problem}"))?;
                let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
                let matching = data.iter().filter(|name| glob.matches_with(name, options));
                let mut matching: Vec<String> = matching.map(ToString::to_string).collect();
                matching.sort();
                return match matching.is_empty() {
                    true => Err(format!("no data file matches {path}; there are {}", listed(&data))),
                    false => Ok(matching),
                };
            }
            Some(path) => {
                let folder = format!("{path}/");
                let inside: Vec<&str> = data.iter().copied().filter(|name| name.starts_with(&folder)).collect();
                match inside.is_empty() {
                    true => return Err(format!("there is no data in {path}; there are {}", listed(&data))),
                    false => inside,
                }
            }
        };
        if found.is_empty() {
            return Err(format!("the repository holds no data file ({})", super::endings()));
        }
        let said: Vec<Option<Said>> = found.iter().map(|name| said(name)).collect();
        let wanted: &[Option<Said>] = match split {
            Split::Train => &[Some(Said::Train), None],
            Split::Eval => &[Some(Said::Validation), Some(Said::Test)],
        };
        let chosen = match said.iter().all(Option::is_none) {
            true => None,
            false => match wanted.iter().find(|wanted| said.contains(wanted)) {
                Some(chosen) => Some(*chosen),
                None => return Err(format!("no name says that it is of this split: {}", listed(&found))),
            },
        };
        let mut files: Vec<String> = found
            .iter()
            .zip(&said)
            .filter(|(_, said)| chosen.is_none_or(|chosen| **said == chosen))
            .map(|(name, _)| name.to_string())
            .collect();
        files.sort();
        self.belong_together(&files, chosen.is_some())?;
        Ok(files)
    }

    /// Refuses files that are several subsets, or that hold the same rows twice.
    fn belong_together(&self, files: &[String], of_a_split: bool) -> Result<(), String> {
        let different = |what: &str, of: &dyn Fn(&str) -> String| {
            let all: BTreeSet<String> = files.iter().map(|file| of(file)).collect();
            match all.len() {
                1 => Ok(()),
                _ => Err(format!(
                    "{what} ({}); say which by a path or a glob, as in hf://datasets/{}/{}",
                    all.into_iter().collect::<Vec<_>>().join(", "),
                    self.name,
                    files.first().map_or("", String::as_str)
                )),
            }
        };
        different("the files are of several formats", &|file| {
            Path::new(file).extension().map_or_else(String::new, |ending| ending.to_string_lossy().into_owned())
        })?;
        different("the files lie in several folders, which may be several datasets", &|file| {
            file.rsplit_once('/').map_or_else(|| "the top".to_string(), |(folder, _)| folder.to_string())
        })?;
        if of_a_split {
            different("the files are of several parts", &|file| {
                let name = file.rsplit('/').next().unwrap_or(file);
                let stem = name.split('.').next().unwrap_or(name);
                let stem = stem.split("-of-").next().unwrap_or(stem);
                stem.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '_')).to_string()
            })?;
        }
        Ok(())
    }
}

/// The split that a file's name states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Train,
    Validation,
    Test,
}

fn said(name: &str) -> Option<Said> {
    // The file's own name is looked at before those of its folders.
    name.rsplit('/').find_map(|part| {
        part.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| {
            match word.trim_end_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase().as_str() {
                "train" | "training" => Some(Said::Train),
                "validation" | "valid" | "val" | "dev" | "eval" | "evaluation" => Some(Said::Validation),
                "test" | "testing" => Some(Said::Test),
                _ => None,
            }
        })
    })
}

/// Whether a file of a repository holds rows, judged by its name: descriptions of datasets are JSON files too.
fn is_rows(name: &str) -> bool {
    const ABOUT: [&str; 6] = [
        "dataset_infos.json",
        "dataset_info.json",
        "dataset_dict.json",
        "state.json",
        "requirements.txt",
        "license.txt",
    ];
    let file = name.rsplit('/').next().unwrap_or(name);
    let hidden = name.split('/').any(|part| part.starts_with('.'));
    !hidden && !ABOUT.contains(&file.to_ascii_lowercase().as_str()) && is_data_file(Path::new(name))
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_string(),
        names if names.len() > 6 => format!("{}, ...", names[..6].join(", ")),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, Option<String>, Option<String>), String> {
        Repository::parse(text).map(|found| (found.name, found.revision, found.path))
    }

    #[test]
    fn an_address_has_an_owner_a_name_and_perhaps_a_path_and_a_revision() {
        let some = |text: &str| Some(text.to_string());
        for (text, revision, path) in [
            ("datasets/a/b", None, None),
            ("datasets/a/b/", None, None),
            ("datasets/a/b/data/x.jsonl", None, some("data/x.jsonl")),
            ("datasets/a/b@v1", some("v1"), None),
            ("datasets/a/b/data@refs/pr/3", some("refs/pr/3"), some("data")),
            ("datasets/a/b@v1/data/x.csv", some("v1"), some("data/x.csv")),
            ("datasets/a/b@refs/convert/parquet/default/train", some("refs/convert/parquet"), some("default/train")),
        ] {
            assert_eq!(parse(text).unwrap(), ("a/b".to_string(), revision, path), "{text}");
        }
        for text in ["a/b", "models/a/b", "datasets/a", "datasets//b", "datasets/a/b@", "datasets/a/b/../c"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    fn chosen(path: Option<&str>, split: Split, names: &[&str]) -> Result<Vec<String>, String> {
        let repository = Repository { name: "a/b".into(), revision: None, path: path.map(str::to_string) };
        repository.choose(names, split)
    }

    #[test]
    fn the_files_of_a_split_are_those_that_say_so() {
        let names = [
            "README.md",
            ".gitattributes",
            "dataset_infos.json",
            "data/train-00001-of-00002.parquet",
            "data/train-00000-of-00002.parquet",
            "data/test-00000-of-00001.parquet",
        ];
        let train = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"];
        assert_eq!(chosen(None, Split::Train, &names).unwrap(), train);
        assert_eq!(chosen(Some("data"), Split::Train, &names).unwrap(), train);
        assert_eq!(chosen(None, Split::Eval, &names).unwrap(), ["data/test-00000-of-00001.parquet"]);
        let validated = [&names[..], &["data/validation.parquet"]].concat();
        assert_eq!(chosen(None, Split::Eval, &validated).unwrap(), ["data/validation.parquet"]);
        for split in [Split::Train, Split::Eval] {
            assert_eq!(chosen(None, split, &["a.jsonl.gz", "b.jsonl.gz"]).unwrap(), ["a.jsonl.gz", "b.jsonl.gz"]);
            assert_eq!(chosen(Some(names[5]), split, &names).unwrap(), [names[5]]);
            assert_eq!(chosen(Some("data/t*00000*"), split, &names).unwrap(), [names[5], names[4]]);
        }
        assert_eq!(chosen(None, Split::Train, &["rows.jsonl", "rows_test.jsonl"]).unwrap(), ["rows.jsonl"]);
    }

    #[test]
    fn what_may_be_several_datasets_is_refused() {
        for (names, said) in [
            (&["main/train.parquet", "extra/train.parquet"][..], "extra, main"),
            (&["train.jsonl", "train.parquet"], "jsonl, parquet"),
            (&["train_sft.jsonl", "train_gen.jsonl"], "train_gen, train_sft"),
            (&["README.md"], "no data file"),
            (&["test.jsonl"], "of this split: test.jsonl"),
        ] {
            let error = chosen(None, Split::Train, names).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(chosen(Some("gone"), Split::Train, &["a.jsonl"]).unwrap_err().contains("a.jsonl"));
        assert!(chosen(Some("*.csv"), Split::Train, &["a.jsonl"]).unwrap_err().contains("a.jsonl"));
    }
}
