//! Which files of a folder hold the rows of a split: [`choose`] decides it by their names, alike for folders on disk
//! and for repositories of a hub.
//!
//! The words are those of Hugging Face's `datasets` (`train`, `training`; `validation`, `valid`, `val`, `dev`; `test`,
//! `testing`), as words of a file's name or of its folders'. `eval` is read as validation. Files that may be several
//! datasets are refused until the path says which: mixing them would train on the wrong rows without a message.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::input::compression;
use super::is_data_file;
use crate::config::Split;

/// The files of a folder that are read, and those that are not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Those that are read, sorted.
    pub taken: Vec<String>,
    /// Files with rows of another split.
    pub others: Vec<String>,
    /// Files that look like data and hold no rows, such as `dataset_infos.json`.
    pub about: Vec<String>,
}

impl Choice {
    /// What was read of the folder and what was left out, as a sentence for users.
    pub fn said(&self) -> String {
        let mut said = format!("reads {}", listed(&self.taken));
        if !self.others.is_empty() {
            said += &format!("; leaves out {}, which are of another split by their names", listed(&self.others));
        }
        if !self.about.is_empty() {
            said += &format!("; passes over {}, which hold no rows", listed(&self.about));
        }
        said
    }
}

/// Whether files of several formats may be read together where no name states a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Formats {
    /// Yes: somebody put them into one folder.
    Mixed,
    /// No.
    One,
}

/// Chooses among `names`, which are relative to the folder. `within` is the folder's address with its last `/`, for
/// messages.
///
/// # Errors
/// A message when there is no data, none of this split, or when the files may be several datasets.
pub(super) fn choose(names: &[&str], split: Split, formats: Formats, within: &str) -> Result<Choice, String> {
    let (rows, about) = sorted_out(names);
    if rows.is_empty() {
        let passed = match about.is_empty() {
            true => String::new(),
            false => format!("; {} hold no rows", listed(&about)),
        };
        return Err(format!("the folder holds no data file ({}){passed}", super::endings()));
    }
    let said = rows.iter().map(|name| said(name)).collect::<Result<Vec<_>, _>>()?;
    let wanted: &[Option<Said>] = match split {
        Split::Train => &[Some(Said::Train), None],
        Split::Eval => &[Some(Said::Validation), Some(Said::Test)],
    };
    let chosen = match said.iter().all(Option::is_none) {
        true => None,
        false => match wanted.iter().find(|wanted| said.contains(wanted)) {
            Some(chosen) => Some(*chosen),
            None => return Err(none_of(split, &rows, within)),
        },
    };
    let (taken, others) =
        rows.iter().zip(&said).partition::<Vec<_>, _>(|(_, said)| chosen.is_none_or(|it| **said == it));
    let named = |files: Vec<(&&str, _)>| {
        let mut files: Vec<String> =
            files.into_iter().map(|(name, _): (&&str, &Option<Said>)| name.to_string()).collect();
        files.sort();
        files
    };
    let choice = Choice { taken: named(taken), others: named(others), about };
    belong_together(&choice.taken, chosen.is_some(), formats, within)?;
    Ok(choice)
}

/// The names that may hold rows, and those that hold none although they end like data.
pub(super) fn sorted_out<'n>(names: &[&'n str]) -> (Vec<&'n str>, Vec<String>) {
    let data = names.iter().copied().filter(|name| is_data_file(Path::new(name)) && !is_hidden(name));
    let (mut rows, mut about): (Vec<&str>, Vec<&str>) = data.partition(|name| !is_about(name));
    // Text beside tables is what somebody wrote about them.
    if rows.iter().any(|name| super::read_as(Path::new(name)) != "txt") {
        let (tables, notes): (Vec<&str>, Vec<&str>) =
            rows.into_iter().partition(|name| super::read_as(Path::new(name)) != "txt");
        rows = tables;
        about.extend(notes);
    }
    about.sort_unstable();
    (rows, about.into_iter().map(str::to_string).collect())
}

fn none_of(split: Split, rows: &[&str], within: &str) -> String {
    let files: Vec<String> = rows.iter().map(ToString::to_string).collect();
    let first = rows.first().copied().unwrap_or_default();
    match split {
        Split::Train => format!(
            "no name says that it is of the training split: {}; to train on one of them, name it: {within}{first}",
            listed(&files)
        ),
        Split::Eval => format!(
            "no name says that it is of an evaluation split (validation, test): {}; name a file for evaluation, or set rows \
             of training aside with data.validation_split",
            listed(&files)
        ),
    }
}

/// Refuses files that are several subsets, or that hold the same rows twice.
fn belong_together(files: &[String], of_a_split: bool, formats: Formats, within: &str) -> Result<(), String> {
    let refused = |what: &str, all: BTreeSet<String>| match all.len() {
        0 | 1 => Ok(()),
        _ => Err(format!(
            "{what} ({}); say which by a path or a glob, as in {within}{}",
            all.into_iter().collect::<Vec<_>>().join(", "),
            files.first().map_or("", String::as_str)
        )),
    };
    let each = |of: &dyn Fn(&str) -> String| files.iter().map(|file| of(file)).collect::<BTreeSet<String>>();
    refused(
        "the files lie in several folders, which may be several datasets",
        each(&|file| file.rsplit_once('/').map_or_else(|| "the top".to_string(), |(folder, _)| folder.to_string())),
    )?;
    if of_a_split || formats == Formats::One {
        refused("the files are of several formats", each(&|file| ending(file).to_string()))?;
    }
    let mut stems: BTreeMap<&str, &str> = BTreeMap::new();
    for file in files {
        if let Some(other) = stems.insert(stem(file), file) {
            return refused("the files may hold the same rows", BTreeSet::from([other.to_string(), file.clone()]));
        }
    }
    // A folder that states the split may hold files of any name; files that state it themselves are its parts.
    let parts = files.iter().filter(|file| matches!(stated(name_of(file)), Ok(Some(_)))).map(|file| part(file));
    refused("the files are of several parts", parts.collect())
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The ending that says the format, without that of a compression.
fn ending(file: &str) -> &str {
    let file = Path::new(file);
    let inner = match compression(file) {
        Some(_) => file.file_stem().map(Path::new).unwrap_or(file),
        None => file,
    };
    inner.extension().and_then(|ending| ending.to_str()).unwrap_or_default()
}

/// A file's path without its endings.
fn stem(file: &str) -> &str {
    let name = name_of(file);
    let whole = file.len() - name.len();
    let cut = match ending(file) {
        "" => name.len(),
        ending => name.to_ascii_lowercase().rfind(&format!(".{}", ending.to_ascii_lowercase())).unwrap_or(name.len()),
    };
    &file[..whole + cut]
}

/// A file's name without the number of its shard.
fn part(file: &str) -> String {
    let name = name_of(file);
    let stem = name.split('.').next().unwrap_or(name);
    let stem = stem.split("-of-").next().unwrap_or(stem);
    stem.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '_')).to_string()
}

/// The split that a file's name states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    Train,
    Validation,
    Test,
}

/// The split that a path states: the file's own name is looked at before those of its folders.
pub(super) fn said(path: &str) -> Result<Option<Said>, String> {
    for part in path.rsplit('/') {
        if let Some(said) = stated(part).map_err(|why| format!("{path}: {why}"))? {
            return Ok(Some(said));
        }
    }
    Ok(None)
}

/// The split that one name states by its words.
fn stated(name: &str) -> Result<Option<Said>, String> {
    let words: Vec<String> = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| word.trim_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase())
        .filter(|word| !word.is_empty())
        .collect();
    let held_out = words.windows(2).any(|two| matches!(two[0].as_str(), "held" | "hold") && two[1] == "out");
    let of_word = |word: &String| {
        let bare = ["set", "data", "split"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
        match bare {
            "train" | "training" => Some(Said::Train),
            "validation" | "valid" | "val" | "dev" | "development" | "eval" | "evaluation" => Some(Said::Validation),
            "test" | "testing" | "heldout" | "holdout" => Some(Said::Test),
            _ => None,
        }
    };
    let all: BTreeSet<Said> = words.iter().filter_map(of_word).chain(held_out.then_some(Said::Test)).collect();
    match all.len() {
        0 | 1 => Ok(all.first().copied()),
        _ => Err("its name states two splits; name the files that are meant".into()),
    }
}

fn is_hidden(path: &str) -> bool {
    // Python's private files and folders (`__pycache__`) are hidden in the same way.
    path.split('/').any(|part| part.starts_with('.') || part.starts_with("__"))
}

/// Whether a file describes data, a model or a program, judged by its name.
pub(super) fn is_about(path: &str) -> bool {
    const NAMES: [&str; 22] = [
        "dataset_infos.json",
        "dataset_info.json",
        "dataset_dict.json",
        "state.json",
        "settings.json",
        "config.json",
        "configs.json",
        "metadata.json",
        "generation_config.json",
        "preprocessor_config.json",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "package.json",
        "package-lock.json",
        "tsconfig.json",
        "schema.json",
        "croissant.json",
        "model.safetensors.index.json",
    ];
    const WORDS: [&str; 15] = [
        "readme",
        "license",
        "licence",
        "copying",
        "copyright",
        "notice",
        "notes",
        "note",
        "requirements",
        "changelog",
        "citation",
        "authors",
        "contributing",
        "merges",
        "vocab",
    ];
    let name = name_of(path).to_ascii_lowercase();
    let stem = name.split('.').next().unwrap_or(&name);
    let is_text = super::read_as(Path::new(&name)) == "txt";
    // What `datasets` keeps beside the tables of a saved folder for itself.
    let is_cached = stem.starts_with("cache-") && super::read_as(Path::new(&name)) == "arrow";
    NAMES.contains(&name.as_str())
        || is_cached
        || (is_text
            && stem.split(|c: char| !c.is_ascii_alphanumeric()).next().is_some_and(|word| WORDS.contains(&word)))
}

/// Names for a message, the first of many.
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [] => "none".to_string(),
        names if names.len() > 6 => format!("{}, ... ({} in all)", names[..6].join(", "), names.len()),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_name_state_the_split() {
        for (name, expected) in [
            ("train.jsonl", Some(Said::Train)),
            ("train-00000-of-00002.parquet", Some(Said::Train)),
            ("my_train_file_00.csv", Some(Said::Train)),
            ("trainset.json", Some(Said::Train)),
            ("TrainingData.csv", Some(Said::Train)),
            ("train1.jsonl", Some(Said::Train)),
            ("dev.jsonl", Some(Said::Validation)),
            ("squad.val.json", Some(Said::Validation)),
            ("valid.jsonl.gz", Some(Said::Validation)),
            ("validation-00000-of-00001.parquet", Some(Said::Validation)),
            ("faq-eval.jsonl", Some(Said::Validation)),
            ("TEST.csv", Some(Said::Test)),
            ("held_out.jsonl", Some(Said::Test)),
            ("holdout.jsonl", Some(Said::Test)),
            ("test/train.jsonl", Some(Said::Train)),
            ("data/test/part-0.jsonl", Some(Said::Test)),
            ("rows.jsonl", None),
            ("contest.jsonl", None),
            ("retrain.jsonl", None),
            ("trainers.jsonl", None),
            ("latest.jsonl", None),
            ("devices.jsonl", None),
            ("dataset.jsonl", None),
        ] {
            assert_eq!(said(name).unwrap(), expected, "{name}");
        }
        assert!(said("train_test.jsonl").unwrap_err().contains("two splits"));
    }

    fn chosen(split: Split, names: &[&str]) -> Result<Vec<String>, String> {
        choose(names, split, Formats::Mixed, "data/").map(|choice| choice.taken)
    }

    #[test]
    fn files_of_other_splits_are_left_out_and_named() {
        let names = ["test.jsonl", "train.jsonl", "valid.jsonl", "README.md", "notes.txt", "dataset_infos.json"];
        let choice = choose(&names, Split::Train, Formats::Mixed, "data/").unwrap();
        assert_eq!(choice.taken, ["train.jsonl"]);
        assert_eq!(choice.others, ["test.jsonl", "valid.jsonl"]);
        assert_eq!(choice.about, ["dataset_infos.json", "notes.txt"]);
        assert_eq!(
            choice.said(),
            "reads train.jsonl; leaves out test.jsonl, valid.jsonl, which are of another split by their names; passes over \
             dataset_infos.json, notes.txt, which hold no rows"
        );
        assert_eq!(chosen(Split::Eval, &names).unwrap(), ["valid.jsonl"]);
        assert_eq!(chosen(Split::Eval, &["train.jsonl", "test.jsonl"]).unwrap(), ["test.jsonl"]);
        let folders = ["train/a.jsonl", "train/b.jsonl", "test/a.jsonl", "test/b.jsonl"];
        assert_eq!(chosen(Split::Train, &folders).unwrap(), folders[..2]);
        assert_eq!(chosen(Split::Eval, &folders).unwrap(), folders[2..]);
        let saved =
            ["dataset_dict.json", "train/data-00000-of-00001.arrow", "train/state.json", "train/cache-1f.arrow"];
        assert_eq!(chosen(Split::Train, &saved).unwrap(), saved[1..2]);
        assert_eq!(chosen(Split::Train, &["a.txt", "b.txt", "LICENSE.txt"]).unwrap(), ["a.txt", "b.txt"]);
    }

    #[test]
    fn what_may_be_several_datasets_or_none_is_refused() {
        for (split, names, said) in [
            (Split::Train, &["en/train.jsonl", "fr/train.jsonl", "en/test.jsonl"][..], "several datasets (en, fr)"),
            (Split::Train, &["train.jsonl", "train.parquet", "test.jsonl"], "several formats (jsonl, parquet)"),
            (Split::Train, &["rows.csv", "rows.jsonl.gz"], "the same rows (rows.csv, rows.jsonl.gz)"),
            (Split::Train, &["train_sft.jsonl", "train_gen.jsonl"], "several parts (train_gen, train_sft)"),
            (Split::Train, &["test.jsonl"], "to train on one of them, name it: data/test.jsonl"),
            (Split::Eval, &["train.jsonl"], "data.validation_split"),
            (Split::Train, &["settings.json", "README.md"], "settings.json hold no rows"),
            (Split::Train, &[], "no data file"),
        ] {
            let error = chosen(split, names).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
