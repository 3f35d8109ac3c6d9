//! Writes, lists and opens checkpoints, which are complete or absent: [`Checkpoints`].
//!
//! `checkpoint-N` is first written as `checkpoint-N.tmp-PID`: its files, each with fsync, then
//! `manifest.json`, fsync of the folder, rename, fsync of the parent. A crash at any moment leaves
//! the older checkpoints and at most a temporary folder, which nothing reads and the next run
//! removes. A checkpoint without a valid manifest is never selected, and the reason is reported.
//!
//! When the same step is written again (after a resume from an earlier checkpoint), the old folder
//! is first moved to `checkpoint-N.tmp-replaced`. If a crash comes between the two renames,
//! [`Checkpoints::clean_leftovers`] restores it.

use super::files::{sync_file, sync_folder};
use super::manifest::Depth;
use super::{Flaw, Manifest, PassedOver, RunError};
use firebrand_files::{Durability, REPLACED, TEMPORARY, write_folder};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const PREFIX: &str = "checkpoint-";

/// The checkpoints in one output folder. Reading needs no lock; only the owner of the
/// [`RunDirectory`](super::RunDirectory) may write.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    root: PathBuf,
}

/// A checkpoint that was compared with its manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The folder.
    pub path: PathBuf,
    /// Optimiser steps completed.
    pub step: u64,
    /// The list of its files.
    pub manifest: Manifest,
}

/// The state of one `checkpoint-N` folder.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckpointStatus {
    /// A resume can start from it.
    Whole(Checkpoint),
    /// It cannot be used, for the reason given.
    Broken(PassedOver),
}

/// The checkpoint to resume from.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// The newest whole checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are broken, newest first.
    pub passed_over: Vec<PassedOver>,
}

impl Checkpoints {
    /// The checkpoints in `output`, which need not exist yet.
    pub fn new(output: &Path) -> Self {
        Self { root: output.to_path_buf() }
    }

    /// Writes `checkpoint-{step}`. `files` writes regular files into the empty folder it is given.
    /// `metric` is the value by which the best checkpoint is chosen, if this one can be the best.
    ///
    /// # Errors
    /// Those of `files` and of the disk. Then the temporary folder is removed and the older
    /// checkpoints are unchanged.
    pub fn write<E: From<RunError>>(
        &self,
        step: u64,
        metric: Option<f64>,
        files: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Checkpoint, E> {
        let path = self.folder(step);
        let failed = |error| RunError::io("writing", &path, error).into();
        let manifest = write_folder(&path, Durability::Synced, failed, |folder| {
            files(folder)?;
            let manifest = Manifest::of_folder(folder, step, metric)?;
            for name in manifest.files.keys() {
                sync_file(&folder.join(name))?;
            }
            manifest.write(folder)?;
            Ok::<_, E>(manifest)
        })?;
        Ok(Checkpoint { path, step, manifest })
    }

    /// Every `checkpoint-N`, newest first, each with all its bytes compared with its manifest.
    pub fn list(&self) -> Result<Vec<CheckpointStatus>, RunError> {
        Ok(self
            .steps()?
            .into_iter()
            .map(|step| match verify(&self.folder(step), Depth::Content) {
                Ok(checkpoint) => CheckpointStatus::Whole(checkpoint),
                Err(passed_over) => CheckpointStatus::Broken(passed_over),
            })
            .collect())
    }

    /// The newest whole checkpoint, and the broken ones that are newer.
    pub fn newest_whole(&self) -> Result<Selection, RunError> {
        let mut passed_over = Vec::new();
        for step in self.steps()? {
            match verify(&self.folder(step), Depth::Content) {
                Ok(checkpoint) => {
                    return Ok(Selection { checkpoint: Some(checkpoint), passed_over });
                }
                Err(broken) => passed_over.push(broken),
            }
        }
        Ok(Selection { checkpoint: None, passed_over })
    }

    /// Opens `checkpoint-{step}` and compares every byte with its manifest.
    pub fn open(&self, step: u64) -> Result<Checkpoint, RunError> {
        Checkpoint::open(&self.folder(step))
    }

    /// Removes what an interrupted write left, or restores a folder that it moved aside. Returns the paths of both.
    pub fn clean_leftovers(&self) -> Result<Vec<PathBuf>, RunError> {
        let mut cleaned = Vec::new();
        for name in self.names()? {
            let Some((step, rest)) = split_name(&name) else {
                continue;
            };
            if !rest.starts_with(TEMPORARY) {
                continue;
            }
            let path = self.root.join(&name);
            let place = self.folder(step);
            if rest == REPLACED && !place.exists() {
                fs::rename(&path, &place).map_err(|error| RunError::io("restoring", &path, error))?;
            } else {
                remove(&path)?;
            }
            cleaned.push(path);
        }
        if !cleaned.is_empty() {
            sync_folder(&self.root)?;
        }
        Ok(cleaned)
    }

    /// Steps of all `checkpoint-N` folders, newest first, whole or broken.
    pub fn steps(&self) -> Result<Vec<u64>, RunError> {
        let mut steps: Vec<u64> = self
            .names()?
            .iter()
            .filter_map(|name| split_name(name))
            .filter(|(_, rest)| rest.is_empty())
            .map(|(step, _)| step)
            .collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        Ok(steps)
    }

    /// The manifest of `checkpoint-{step}`, if the names and lengths of the files agree with it.
    pub(super) fn plausible(&self, step: u64) -> Option<Manifest> {
        verify(&self.folder(step), Depth::Lengths).ok().map(|checkpoint| checkpoint.manifest)
    }

    /// Removes `checkpoint-{step}`. It is renamed first, so that a crash in between leaves no folder
    /// with the name of a checkpoint.
    pub(super) fn remove(&self, step: u64) -> Result<PathBuf, RunError> {
        let path = self.folder(step);
        let doomed = self.root.join(format!("{PREFIX}{step}{TEMPORARY}removed"));
        remove(&doomed)?;
        fs::rename(&path, &doomed).map_err(|error| RunError::io("removing", &path, error))?;
        remove(&doomed)?;
        Ok(path)
    }

    fn folder(&self, step: u64) -> PathBuf {
        self.root.join(format!("{PREFIX}{step}"))
    }

    fn names(&self) -> Result<Vec<String>, RunError> {
        let failed = |error| RunError::io("reading", &self.root, error);
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 was not written here.
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

impl Checkpoint {
    /// Opens the checkpoint in `path` and compares every byte with its manifest.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        if !path.is_dir() {
            return Err(RunError::NoRun { path: path.to_path_buf() });
        }
        verify(path, Depth::Content).map_err(|PassedOver { path, flaw }| RunError::BrokenCheckpoint { path, flaw })
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Selection {
    /// The checkpoint, or an error with the reason why each one was passed over.
    pub fn require(self, output: &Path) -> Result<Checkpoint, RunError> {
        self.checkpoint.ok_or(RunError::NoWholeCheckpoint { path: output.to_path_buf(), passed_over: self.passed_over })
    }
}

fn verify(path: &Path, depth: Depth) -> Result<Checkpoint, PassedOver> {
    let flawed = |flaw| PassedOver { path: path.to_path_buf(), flaw };
    if !path.is_dir() {
        return Err(flawed(Flaw::NoManifest));
    }
    let manifest = Manifest::read(path).map_err(flawed)?;
    let expected = path.file_name().and_then(|name| split_name(name.to_str()?)).filter(|(_, rest)| rest.is_empty());
    if let Some((expected, _)) = expected
        && expected != manifest.step
    {
        return Err(flawed(Flaw::Step { expected, found: manifest.step }));
    }
    manifest.verify(path, depth).map_err(flawed)?;
    Ok(Checkpoint { path: path.to_path_buf(), step: manifest.step, manifest })
}

/// `checkpoint-12.tmp-3` -> `(12, ".tmp-3")`. A number counts only without leading zeros, so that
/// `checkpoint-012` is not taken for `checkpoint-12`.
fn split_name(name: &str) -> Option<(u64, &str)> {
    let rest = name.strip_prefix(PREFIX)?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let step: u64 = rest[..digits].parse().ok()?;
    (step.to_string() == rest[..digits]).then_some((step, &rest[digits..]))
}

/// Whether `name` is that of a checkpoint's folder.
pub(super) fn is_checkpoint(name: &str) -> bool {
    split_name(name).is_some_and(|(_, rest)| rest.is_empty())
}

/// Whether `name` is that of a checkpoint that is being written. One that was moved aside is no such.
pub(super) fn is_unfinished(name: &str) -> bool {
    split_name(name).is_some_and(|(_, rest)| rest.starts_with(TEMPORARY) && rest != REPLACED)
}

fn remove(path: &Path) -> Result<(), RunError> {
    firebrand_files::remove(path).map_err(|error| RunError::io("removing", path, error))
}

#[cfg(test)]
pub(super) mod tests;
