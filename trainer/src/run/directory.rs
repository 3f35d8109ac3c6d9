//! [`RunDirectory`]: the output folder of a run, locked so that only one run writes into it.
//!
//! The lock is an advisory lock on the file `.lock`, which the operating system releases when the
//! process ends, however it ends. The file stays: if it were removed, two runs could lock two
//! different files of that name.

use super::files::sync_folder;
use super::{Checkpoint, Checkpoints, RunError, RunInfo, Selection, write_atomically};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

const LOCK: &str = ".lock";
const RECIPE: &str = "recipe.toml";
const INFO: &str = "run.json";

/// An output folder. While this value exists, no other run can write into the folder.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    // Kept open for its lock.
    _lock: File,
}

impl RunDirectory {
    /// Locks `path` for a new run. The folder is created if it does not exist.
    ///
    /// # Errors
    /// A folder that is not empty (use resume), is not writable, or is in use; a file in its place.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        if path.is_file() {
            return Err(RunError::NotAFolder { path: path.to_path_buf() });
        }
        fs::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                RunError::NotAFolder { path: path.to_path_buf() }
            }
            _ => RunError::io("creating", path, error),
        })?;
        // Checked before anything is written, because the folder may belong to someone else. A folder in
        // use by another run is reported as locked instead.
        if !is_empty(path)? {
            if path.join(LOCK).is_file() {
                lock(path)?;
            }
            return Err(RunError::OutputNotEmpty { path: path.to_path_buf() });
        }
        let directory = Self { path: path.to_path_buf(), _lock: lock(path)? };
        sync_folder(path)?;
        Ok(directory)
    }

    /// Locks the folder of an earlier run, and removes what a crash left in it.
    ///
    /// # Errors
    /// A folder that does not exist, is not writable, or is in use.
    pub fn open_for_resume(path: &Path) -> Result<Self, RunError> {
        if path.is_file() {
            return Err(RunError::NotAFolder { path: path.to_path_buf() });
        }
        if !path.is_dir() || is_empty(path)? {
            return Err(RunError::NoRun { path: path.to_path_buf() });
        }
        let directory = Self { path: path.to_path_buf(), _lock: lock(path)? };
        directory.checkpoints().clean_leftovers()?;
        Ok(directory)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The folder of TensorBoard's event files.
    pub fn tensorboard_path(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// The folder of the trained adapter.
    pub fn adapter_path(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// The folder of the merged or fully trained model.
    pub fn model_path(&self) -> PathBuf {
        self.path.join("model")
    }

    /// Its checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(&self.path)
    }

    /// The checkpoint that `--resume [PATH]` names: the newest whole one of this output, or the one at
    /// `requested`, which is a path or the name of a checkpoint in this output.
    pub fn select(&self, requested: Option<&Path>) -> Result<Selection, RunError> {
        let Some(requested) = requested else {
            return self.checkpoints().newest_whole();
        };
        let inside = self.path.join(requested);
        let path = if !requested.exists() && inside.exists() { &inside } else { requested };
        Ok(Selection { checkpoint: Some(Checkpoint::open(path)?), passed_over: Vec::new() })
    }

    /// Writes the resolved recipe of the run.
    pub fn write_recipe(&self, recipe: &str) -> Result<(), RunError> {
        write_atomically(&self.path.join(RECIPE), recipe.as_bytes())
    }

    /// Reads the recipe of the run to be resumed.
    pub fn read_recipe(&self) -> Result<String, RunError> {
        let path = self.path.join(RECIPE);
        fs::read_to_string(&path).map_err(|error| RunError::io("reading", &path, error))
    }

    /// Writes `run.json`.
    pub fn write_info(&self, info: &RunInfo) -> Result<(), RunError> {
        let path = self.path.join(INFO);
        let mut text =
            serde_json::to_string_pretty(info).map_err(|error| RunError::io("writing", &path, error.into()))?;
        text.push('\n');
        write_atomically(&path, text.as_bytes())
    }

    /// Reads the `run.json` of the run to be resumed.
    pub fn read_info(&self) -> Result<RunInfo, RunError> {
        let path = self.path.join(INFO);
        let text = fs::read_to_string(&path).map_err(|error| RunError::io("reading", &path, error))?;
        serde_json::from_str(&text).map_err(|error| RunError::Malformed {
            path,
            expected: "the description of a run",
            found: error.to_string(),
        })
    }
}

fn is_empty(path: &Path) -> Result<bool, RunError> {
    let failed = |error| RunError::io("reading", path, error);
    for entry in fs::read_dir(path).map_err(failed)? {
        // A run that failed before its first file leaves only the lock file.
        if entry.map_err(failed)?.file_name() != LOCK {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock(folder: &Path) -> Result<File, RunError> {
    let path = folder.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| RunError::io("creating", &path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            // The process id is used in the message only.
            let _ = file.take(32).read_to_string(&mut process);
            return Err(RunError::Locked {
                path: folder.to_path_buf(),
                process: Some(process.trim().to_string()).filter(|id| !id.is_empty()),
            });
        }
        // Some network file systems have no locks. Training is allowed there without one.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(RunError::io("locking", &path, error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| RunError::io("writing", &path, error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::tests::write;
    use super::*;

    #[test]
    fn a_new_output_is_created_with_its_parents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/bot");
        let run = RunDirectory::create(&path).unwrap();
        run.write_recipe("seed = 1\n").unwrap();
        let info = RunInfo { seed: u64::MAX, ..RunInfo::default() };
        run.write_info(&info).unwrap();
        assert_eq!(run.read_recipe().unwrap(), "seed = 1\n");
        assert_eq!(run.read_info().unwrap(), info);
    }

    #[test]
    fn an_output_with_content_is_refused_and_untouched() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), b"words").unwrap();
        let error = RunDirectory::create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("--resume"), "{error}");
        assert!(error.to_string().contains("--output"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_run_that_failed_before_its_first_file_can_be_started_again() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunDirectory::create(folder.path()).unwrap());
        RunDirectory::create(folder.path()).unwrap();
    }

    #[test]
    fn files_in_the_way_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        for path in [file.clone(), file.join("runs/bot")] {
            let error = RunDirectory::create(&path).unwrap_err();
            assert!(matches!(error, RunError::NotAFolder { .. }), "{error}");
            assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        }
        assert!(matches!(RunDirectory::open_for_resume(&file), Err(RunError::NotAFolder { .. })));
    }

    #[test]
    fn two_runs_cannot_write_one_output() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDirectory::create(folder.path()).unwrap();
        first.write_recipe("seed = 1\n").unwrap();
        for attempt in [RunDirectory::create(folder.path()), RunDirectory::open_for_resume(folder.path())] {
            let error = attempt.unwrap_err();
            let process = format!("(process {})", std::process::id());
            assert!(error.to_string().contains(&process), "{error}");
        }
        drop(first);
        RunDirectory::open_for_resume(folder.path()).unwrap();
    }

    #[test]
    fn resume_needs_a_run() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_path_buf(), folder.path().join("missing")] {
            let error = RunDirectory::open_for_resume(&path).unwrap_err();
            assert!(matches!(error, RunError::NoRun { .. }), "{error}");
        }
        assert!(!folder.path().join("missing").exists());
    }

    #[test]
    fn resume_takes_the_newest_or_the_named_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path()).unwrap();
        for step in [1, 2] {
            write(&run.checkpoints(), step, None);
        }
        fs::create_dir(folder.path().join("checkpoint-3.tmp-1")).unwrap();
        drop(run);
        let run = RunDirectory::open_for_resume(folder.path()).unwrap();
        assert!(!folder.path().join("checkpoint-3.tmp-1").exists());
        let step = |requested: Option<&Path>| {
            run.select(requested).and_then(|selection| selection.require(run.path())).map(|checkpoint| checkpoint.step)
        };
        assert_eq!(step(None).unwrap(), 2);
        assert_eq!(step(Some(Path::new("checkpoint-1"))).unwrap(), 1);
        assert_eq!(step(Some(&folder.path().join("checkpoint-1"))).unwrap(), 1);
        let error = step(Some(Path::new("checkpoint-7"))).unwrap_err();
        assert!(error.to_string().contains("checkpoint-7"), "{error}");
    }
}
