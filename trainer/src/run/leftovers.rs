//! What a run leaves in its folder when it stops before its first checkpoint: [`Leftovers`].
//!
//! Such a folder holds nothing that a resume could start from, so the run is started again in it. What is removed then
//! is only what this program wrote, known by name and, for the recipe, by its first line.

use super::RunError;
use super::checkpoint::is_unfinished;
use super::files::read_bounded;
use crate::recipe::HEADER;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Files of a run, besides checkpoints and results.
pub(super) const LOCK: &str = ".lock";
pub(super) const RECIPE: &str = "recipe.toml";
pub(super) const INFO: &str = "run.json";
pub(super) const METRICS: &str = "metrics.jsonl";
pub(super) const TENSORBOARD: &str = "tensorboard";
/// Folders of results.
pub(super) const RESULTS: [&str; 2] = ["adapter", "model"];

/// Beginning and end of the names of our event files.
const EVENTS: [&str; 2] = ["events.out.tfevents.", ".firebrand"];
/// Largest recipe whose first line is read, in bytes.
const LARGEST: u64 = 1 << 22;

/// The entries of the folder of a run without a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Metrics, event files, temporary files: removed when the run starts again.
    removable: Vec<PathBuf>,
    /// Whether the folder has a recipe that a run wrote.
    recipe: bool,
    /// Whether a run locked the folder.
    lock: bool,
    /// Whether there is a checkpoint, whole or broken, or a result.
    results: bool,
    /// Whether there is something that a run does not write.
    foreign: bool,
}

impl Leftovers {
    /// Looks at the entries of `folder`.
    pub(super) fn of(folder: &Path) -> Result<Self, RunError> {
        let failed = |error| RunError::io("reading", folder, error);
        let mut found = Self::default();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let is_file = entry.file_type().map_err(failed)?.is_file();
            let name = entry.file_name().to_string_lossy().into_owned();
            match name.as_str() {
                LOCK if is_file => found.lock = true,
                RECIPE if is_file && is_resolved(&path) => found.recipe = true,
                INFO if is_file => {}
                METRICS if is_file => found.removable.push(path),
                TENSORBOARD if !is_file => {
                    let (events, others) = event_files(&path).map_err(|error| RunError::io("reading", &path, error))?;
                    found.removable.extend(events);
                    found.foreign |= others;
                }
                name if RESULTS.contains(&name) => found.results = true,
                name if is_unfinished(name) || is_temporary(name) => found.removable.push(path),
                name if super::checkpoint::is_checkpoint(name) => found.results = true,
                _ => found.foreign = true,
            }
        }
        Ok(found)
    }

    /// Whether a run began here and left nothing to go on from.
    pub(super) fn of_a_failed_start(&self) -> bool {
        self.lock && self.recipe && !self.results
    }

    /// The same, and nothing else is in the folder. A run that stopped before its recipe was whole counts too.
    pub(super) fn only_of_a_failed_start(&self) -> bool {
        let begun = self.recipe || self.removable.iter().all(|path| is_temporary(&name_of(path)));
        self.lock && begun && !self.results && !self.foreign
    }

    /// Removes what the run wrote, but for the recipe and `run.json`, which are replaced when it starts again.
    pub(super) fn remove(&self) -> Result<(), RunError> {
        self.removable
            .iter()
            .try_for_each(|path| firebrand_files::remove(path).map_err(|error| RunError::io("removing", path, error)))
    }
}

/// Whether the recipe was written by a run. One that a user wrote there is left alone.
fn is_resolved(path: &Path) -> bool {
    read_bounded(path, LARGEST).is_ok_and(|text| text.starts_with(HEADER.trim_end()))
}

/// The event files in `folder`, and whether it holds anything else.
fn event_files(folder: &Path) -> io::Result<(Vec<PathBuf>, bool)> {
    let (mut events, mut others) = (vec![], false);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = entry.file_type()?.is_file() && name.starts_with(EVENTS[0]) && name.ends_with(EVENTS[1]);
        if ours { events.push(entry.path()) } else { others = true }
    }
    Ok((events, others))
}

/// Whether a file of the run was being written under this name; see [`firebrand_files::temporary_name`].
fn is_temporary(name: &str) -> bool {
    let of = |file: &str| {
        name.strip_prefix('.').and_then(|rest| rest.strip_prefix(file)).is_some_and(|rest| {
            let inner = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp"));
            inner.is_some_and(|inner| inner.chars().all(|c| c.is_ascii_digit() || c == '-'))
        })
    };
    [RECIPE, INFO, METRICS].into_iter().any(of)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_program_are_temporary() {
        let name = firebrand_files::temporary_name("metrics.jsonl");
        assert!(is_temporary(&name), "{name}");
        for name in [".metrics.jsonl.tmp", ".notes.txt.12-0.tmp", "metrics.jsonl", ".metrics.jsonl.mine.tmp"] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
