//! [`MetricsFile`]: writes `metrics.jsonl`, one JSON object for each logged step or evaluation.
//!
//! Each line is written in one call, so a reader sees whole lines and a crash loses at most the
//! last one. A resume from step N removes the lines after N, and lines that cannot be read as
//! records (a half-written last one), so that the file always describes one run.

use super::RunError;
use super::files::sync_folder;
use crate::observer::Record;
use firebrand_files::{Durability, write_file};
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// The file, open for appending.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

#[derive(Deserialize)]
struct Step {
    step: u64,
}

impl MetricsFile {
    /// Starts the file of a new run.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        Self::open(path, OpenOptions::new().append(true).create_new(true))
    }

    /// Continues after `step`: later lines are removed. A missing file is created.
    pub fn resume(path: &Path, step: u64) -> Result<Self, RunError> {
        match File::open(path) {
            Ok(earlier) => cut(path, earlier, step)
                .map_err(|error| RunError::io("cutting the metrics to the checkpoint", path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(RunError::io("reading", path, error)),
        }
        if let Some(folder) = path.parent() {
            sync_folder(folder)?;
        }
        Self::open(path, OpenOptions::new().append(true).create(true))
    }

    /// Appends a record as one line.
    pub fn write(&mut self, record: &Record) -> Result<(), RunError> {
        let mut line = record.to_line();
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(|error| RunError::io("writing", &self.path, error))
    }

    /// Waits until all lines are on the disk.
    pub fn sync(&self) -> Result<(), RunError> {
        match self.file.sync_data() {
            // Pipes and devices cannot be synced and need not be.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => {
                Err(RunError::io("syncing", &self.path, error))
            }
            _ => Ok(()),
        }
    }

    /// Appends to whatever `path` is, such as `/dev/full`.
    #[cfg(test)]
    pub(crate) fn to_device(path: &Path) -> Self {
        Self::open(path, OpenOptions::new().append(true)).unwrap()
    }

    fn open(path: &Path, options: &OpenOptions) -> Result<Self, RunError> {
        let file = options.open(path).map_err(|error| RunError::io("creating", path, error))?;
        Ok(Self { path: path.to_path_buf(), file })
    }
}

/// Rewrites `path` with the lines up to `step`, atomically.
fn cut(path: &Path, earlier: File, step: u64) -> io::Result<()> {
    write_file(
        path,
        Durability::Synced,
        |error| error,
        |file| {
            let mut reader = BufReader::new(earlier);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                let record: Result<Step, _> = serde_json::from_slice(&line);
                if record.is_ok_and(|record| record.step <= step) {
                    file.write_all(line.trim_ascii_end())?;
                    file.write_all(b"\n")?;
                }
                line.clear();
            }
            Ok(())
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::tests::{eval_report, step_report};
    use std::fs;

    fn written(path: &Path, steps: std::ops::RangeInclusive<u64>, mut file: MetricsFile) {
        for step in steps {
            file.write(&Record::Step(step_report(step, 9))).unwrap();
            if step % 2 == 0 {
                file.write(&Record::Eval(eval_report(step))).unwrap();
            }
        }
        file.sync().unwrap();
        assert!(path.exists());
    }

    #[test]
    fn a_resumed_file_equals_that_of_an_uninterrupted_run() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole.jsonl");
        written(&whole, 1..=9, MetricsFile::create(&whole).unwrap());
        for half_line in ["", "{\"step\":", "{\"step\":3}garbage", "\0\0\0\0\n\0\0"] {
            let path = folder.path().join("metrics.jsonl");
            let _ = fs::remove_file(&path);
            written(&path, 1..=7, MetricsFile::create(&path).unwrap());
            let mut crashed = fs::read(&path).unwrap();
            crashed.extend_from_slice(half_line.as_bytes());
            fs::write(&path, crashed).unwrap();
            written(&path, 5..=9, MetricsFile::resume(&path, 4).unwrap());
            assert_eq!(fs::read_to_string(&path).unwrap(), fs::read_to_string(&whole).unwrap(), "{half_line:?}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn every_line_is_an_object_with_its_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        written(&path, 1..=2, MetricsFile::create(&path).unwrap());
        let lines: Vec<serde_json::Value> =
            fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1]["step"], 2);
        assert_eq!(lines[1]["num_tokens"], 2 * 16_777_217_u64);
        assert_eq!(lines[1]["learning_rate"].as_f64().unwrap(), 2e-4 / 3.0);
        assert_eq!(lines[2]["eval_loss"].as_f64().unwrap(), 1.1);
    }

    #[test]
    fn a_missing_file_is_started_on_resume() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        written(&path, 5..=5, MetricsFile::resume(&path, 4).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_reported_with_the_path() {
        let mut file = MetricsFile::to_device(Path::new("/dev/full"));
        let error = file.write(&Record::Step(step_report(1, 2))).unwrap_err();
        assert!(error.to_string().starts_with("/dev/full: the disk is full"), "{error}");
    }
}
