//! [`RunDirectory`]: the output folder of a run, locked so that only one run writes into it.
//!
//! The lock is an advisory lock on the file `.lock`, which the operating system releases when the
//! process ends, however it ends. The file stays: if it were removed, two runs could lock two
//! different files of that name.

use super::files::sync_folder;
use super::leftovers::{INFO, LOCK, Leftovers, METRICS, RECIPE, RESULTS, TENSORBOARD};
use super::{Checkpoint, Checkpoints, RunError, RunInfo, Selection, write_atomically};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// An output folder. While this value exists, no other run can write into the folder.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    began_before: bool,
    // Kept open for its lock.
    _lock: File,
}

/// Where `--resume` begins.
#[derive(Clone, Debug, PartialEq)]
pub enum ResumePoint {
    /// After this checkpoint.
    Checkpoint(Checkpoint),
    /// At the beginning: the run stopped before its first checkpoint.
    Beginning,
}

impl RunDirectory {
    /// Locks `path` for a new run. The folder is created if it does not exist. What a run left there that stopped before
    /// its first checkpoint is removed; see [`Self::began_before`].
    ///
    /// # Errors
    /// A folder that holds anything else (use resume), is not writable, or is in use; a file in its place.
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
        let began_before = !is_empty(path)?;
        if began_before && !Leftovers::of(path)?.only_of_a_failed_start() {
            if path.join(LOCK).is_file() {
                lock(path)?;
            }
            return Err(RunError::OutputNotEmpty { path: path.to_path_buf() });
        }
        let directory = Self { path: path.to_path_buf(), began_before, _lock: lock(path)? };
        if began_before {
            // Looked at again, now that no other run can write here.
            Leftovers::of(path)?.remove()?;
        }
        sync_folder(path)?;
        Ok(directory)
    }

    /// Whether a run began here before and stopped before its first checkpoint.
    pub fn began_before(&self) -> bool {
        self.began_before
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
        let directory = Self { path: path.to_path_buf(), began_before: true, _lock: lock(path)? };
        directory.checkpoints().clean_leftovers()?;
        Ok(directory)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `metrics.jsonl`.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// The folder of TensorBoard's event files.
    pub fn tensorboard_path(&self) -> PathBuf {
        self.path.join(TENSORBOARD)
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
    /// `requested`, which is a path, or the name or step of a checkpoint in this output.
    ///
    /// # Errors
    /// A checkpoint that is not there or is broken, where one is named.
    pub fn select(&self, requested: Option<&Path>) -> Result<Selection, RunError> {
        let same =
            |path: &Path| path.canonicalize().ok().is_some_and(|path| Some(path) == self.path.canonicalize().ok());
        let Some(requested) = requested.filter(|path| !same(path)) else {
            return self.checkpoints().newest_whole();
        };
        let step: Option<u64> = requested.to_str().and_then(|text| text.parse().ok());
        let places = [
            requested.to_path_buf(),
            self.path.join(requested),
            self.path.join(format!("checkpoint-{}", step.unwrap_or_default())),
        ];
        let Some(path) = places.iter().take(if step.is_some() { 3 } else { 2 }).find(|path| path.exists()) else {
            // The checkpoints beside the one that was named, which may be those of another run.
            let beside = requested.parent().filter(|folder| folder.is_dir() && !folder.as_os_str().is_empty());
            let folder = beside.unwrap_or(&self.path);
            let name = step.map_or_else(
                || requested.file_name().unwrap_or(requested.as_os_str()).to_string_lossy().into_owned(),
                |step| format!("checkpoint-{step}"),
            );
            let steps = Checkpoints::new(folder).steps()?;
            return Err(RunError::NoCheckpoint { path: folder.to_path_buf(), name, steps });
        };
        Ok(Selection { checkpoint: Some(Checkpoint::open(path)?), passed_over: Vec::new() })
    }

    /// Where a run goes on from what was selected. Without a checkpoint and results it starts again: what it wrote before
    /// is removed, and nothing else.
    ///
    /// # Errors
    /// A run of which no checkpoint is whole, although it wrote checkpoints or results; a folder without a run.
    pub fn resume_point(&self, selection: Selection) -> Result<ResumePoint, RunError> {
        let leftovers = Leftovers::of(&self.path)?;
        if selection.checkpoint.is_none() && selection.passed_over.is_empty() && leftovers.of_a_failed_start() {
            leftovers.remove()?;
            return Ok(ResumePoint::Beginning);
        }
        Ok(ResumePoint::Checkpoint(selection.require(&self.path)?))
    }

    /// Whether a run has written its adapter or model here.
    pub fn has_results(&self) -> bool {
        RESULTS.iter().any(|name| self.path.join(name).is_dir())
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
    use crate::recipe::HEADER;

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
    fn a_run_without_a_checkpoint_can_be_started_again_and_only_its_own_files_go() {
        for (foreign, resumed) in [(None, false), (None, true), (Some("thesis.tex"), true)] {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let run = RunDirectory::create(folder.path()).unwrap();
            assert!(!run.began_before());
            run.write_recipe(&format!("{HEADER}seed = 1\n")).unwrap();
            run.write_info(&RunInfo::default()).unwrap();
            fs::write(path("metrics.jsonl"), b"{}\n").unwrap();
            fs::create_dir(path("tensorboard")).unwrap();
            fs::write(path("tensorboard/events.out.tfevents.1.firebrand"), b"").unwrap();
            fs::create_dir(path("checkpoint-5.tmp-17")).unwrap();
            if let Some(name) = foreign {
                fs::write(path(name), b"words").unwrap();
            }
            drop(run);
            if resumed {
                let run = RunDirectory::open_for_resume(folder.path()).unwrap();
                let selection = run.select(None).unwrap();
                assert_eq!(run.resume_point(selection).unwrap(), ResumePoint::Beginning);
            } else {
                assert!(RunDirectory::create(folder.path()).unwrap().began_before());
            }
            let mut names: Vec<String> = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let mut expected = vec![".lock", "recipe.toml", "run.json", "tensorboard"];
            expected.extend(foreign);
            expected.sort_unstable();
            assert_eq!(names, expected);
            assert_eq!(fs::read_dir(path("tensorboard")).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_folder_with_anything_else_is_not_started_again() {
        for (name, content) in [
            ("thesis.tex", "words"),
            ("recipe.toml", "# my own\nseed = 1\n"),
            ("tensorboard/notes.txt", "words"),
            ("checkpoint-3/state.json", "{}"),
            ("adapter/adapter_config.json", "{}"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let run = RunDirectory::create(folder.path()).unwrap();
            run.write_recipe(HEADER).unwrap();
            drop(run);
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            let error = RunDirectory::create(folder.path()).unwrap_err();
            assert!(matches!(error, RunError::OutputNotEmpty { .. }), "{name}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        // Without the lock no run began here, whatever the files are called.
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("recipe.toml"), HEADER).unwrap();
        assert!(RunDirectory::create(folder.path()).is_err());
    }

    #[test]
    fn a_checkpoint_that_is_not_there_is_answered_with_those_that_are() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::create(folder.path()).unwrap();
        let said = |requested: &Path| run.select(Some(requested)).unwrap_err().to_string();
        assert!(said(Path::new("checkpoint-2")).ends_with("no checkpoint-2; there is no checkpoint here"));
        for step in [6, 10] {
            write(&run.checkpoints(), step, None);
        }
        let there = "no checkpoint-2; there are checkpoint-6, checkpoint-10";
        for requested in [PathBuf::from("checkpoint-2"), folder.path().join("checkpoint-2"), PathBuf::from("2")] {
            assert!(said(&requested).ends_with(there), "{}", said(&requested));
        }
        let step = |requested: &Path| run.select(Some(requested)).unwrap().checkpoint.unwrap().step;
        assert_eq!((step(Path::new("6")), step(folder.path())), (6, 10));
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
