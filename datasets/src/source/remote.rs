//! Datasets of a hub, `hf://datasets/owner/name[/path][@revision]`: [`Repository`] parses an address and chooses which
//! files of a repository hold the rows of a split. The caller downloads them ([`Fetch`]), because this crate has no
//! network access.

use std::path::{Path, PathBuf};

use super::is_data_file;
use super::splits::{self, Choice, Formats, listed};
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
    /// those that `splits::choose` finds.
    ///
    /// # Errors
    /// A message when there is no data, or when the files may be several datasets.
    pub fn choose(&self, names: &[&str], split: Split) -> Result<Vec<String>, String> {
        self.choice(names, split).map(|choice| choice.taken)
    }

    /// As [`Repository::choose`], with the files that are not read.
    pub(super) fn choice(&self, names: &[&str], split: Split) -> Result<Choice, String> {
        let taken = |taken: Vec<String>| Choice { taken, ..Choice::default() };
        let (data, _) = splits::sorted_out(names);
        let data: Vec<String> = data.iter().map(ToString::to_string).collect();
        match &self.path {
            None => splits::choose(names, split, Formats::One, &format!("hf://datasets/{}/", self.name)),
            Some(path) if names.contains(&path.as_str()) && is_data_file(Path::new(path)) => {
                Ok(taken(vec![path.clone()]))
            }
            Some(path) if path.contains(['*', '?', '[']) => {
                let glob = glob::Pattern::new(path).map_err(|problem| format!("not a valid glob: {problem}"))?;
                let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
                let mut matching: Vec<String> =
                    data.iter().filter(|name| glob.matches_with(name, options)).cloned().collect();
                matching.sort();
                match matching.is_empty() {
                    true => Err(format!("no data file matches {path}; there are {}", listed(&data))),
                    false => Ok(taken(matching)),
                }
            }
            Some(path) => {
                let folder = format!("{path}/");
                let inside: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(&folder)).collect();
                if splits::sorted_out(&inside).0.is_empty() {
                    return Err(format!("there is no data in {path}; there are {}", listed(&data)));
                }
                let within = format!("hf://datasets/{}/{folder}", self.name);
                let whole = |names: Vec<String>| names.into_iter().map(|name| format!("{folder}{name}")).collect();
                let Choice { taken, others, about } = splits::choose(&inside, split, Formats::One, &within)?;
                Ok(Choice { taken: whole(taken), others: whole(others), about: whole(about) })
            }
        }
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
            (&["test.jsonl"], "of the training split: test.jsonl"),
        ] {
            let error = chosen(None, Split::Train, names).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(chosen(Some("gone"), Split::Train, &["a.jsonl"]).unwrap_err().contains("a.jsonl"));
        assert!(chosen(Some("*.csv"), Split::Train, &["a.jsonl"]).unwrap_err().contains("a.jsonl"));
    }
}
