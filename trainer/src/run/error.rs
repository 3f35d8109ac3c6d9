//! [`RunError`]: everything that can go wrong with a run's files, each with its path and advice.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failure to read or write the files of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The output already holds something.
    #[error("{}: the output folder is not empty; continue the run in it with --resume, or choose another --output", .path.display())]
    OutputNotEmpty { path: PathBuf },
    /// The output, or a part of its path, is a file.
    #[error("{}: the output must be a folder, but a file is in the way; choose another --output", .path.display())]
    NotAFolder { path: PathBuf },
    /// Another process holds the lock.
    #[error("{}: another run{} is writing into this folder; wait for it, or choose another --output", .path.display(), by_process(.process))]
    Locked { path: PathBuf, process: Option<String> },
    /// Resume was asked for, but there is no folder.
    #[error("{}: there is no run to resume here; check --output, or start without --resume", .path.display())]
    NoRun { path: PathBuf },
    /// Resume was asked for, but no checkpoint is whole.
    #[error("{}: no whole checkpoint to resume from{}; start again with another --output", .path.display(), reasons(.passed_over))]
    NoWholeCheckpoint { path: PathBuf, passed_over: Vec<PassedOver> },
    /// The checkpoint that was named is not there.
    #[error("{}: no {name}; {}", .path.display(), those(.steps))]
    NoCheckpoint { path: PathBuf, name: String, steps: Vec<u64> },
    /// A checkpoint that does not agree with its manifest.
    #[error("{}: this checkpoint is broken: {flaw}; choose another one", .path.display())]
    BrokenCheckpoint { path: PathBuf, flaw: Flaw },
    /// No space left, or the quota is used up.
    #[error("{}: the disk is full ({action}); free some space and continue with --resume. What was complete before is untouched", .path.display())]
    DiskFull { path: PathBuf, action: &'static str },
    /// Read-only file system or missing permission.
    #[error("{}: cannot write here ({action}): {source}; choose another --output or change the permissions", .path.display())]
    NotWritable { path: PathBuf, action: &'static str, source: io::Error },
    /// Any other failure of the operating system.
    #[error("{}: {action} failed: {source}", .path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    /// A file of a run cannot be parsed.
    #[error("{}: expected {expected}, found {found}", .path.display())]
    Malformed { path: PathBuf, expected: &'static str, found: String },
    /// A file was written by a version of firebrand with another format.
    #[error("{}: format version {found}, but this firebrand reads versions 1 to {supported}; use the firebrand that wrote it", .path.display())]
    Version { path: PathBuf, found: u64, supported: u64 },
    /// A number is not finite and cannot be stored exactly.
    #[error("{}: {name} is {value}, which cannot be saved", .path.display())]
    NotFinite { path: PathBuf, name: &'static str, value: f64 },
    /// burn-train could not process a report.
    #[error("showing or logging a step failed: {0}")]
    Report(String),
    /// The user chose to stop at once in the terminal dashboard.
    #[error("stopped at once on request; continue from the newest checkpoint with --resume")]
    Killed,
}

impl RunError {
    /// Chooses the variant that tells the user what to do about an error of the operating system.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RunError::DiskFull { path, action },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                RunError::NotWritable { path, action, source }
            }
            _ => RunError::Io { path, action, source },
        }
    }
}

/// Why a checkpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It has no manifest; often it was copied by hand and incompletely.
    #[error("it has no manifest.json")]
    NoManifest,
    /// The manifest is not JSON, or not in the expected form.
    #[error("manifest.json cannot be read: {0}")]
    Manifest(String),
    /// The manifest is of another step than the folder's name says.
    #[error("manifest.json is of step {found}, the folder of step {expected}")]
    Step { expected: u64, found: u64 },
    /// The manifest has a name that could lead out of the folder.
    #[error("manifest.json names the file {0:?}, which is no plain file name")]
    UnsafeName(String),
    /// A listed file is missing.
    #[error("{0} is missing")]
    Missing(String),
    /// A file is not listed.
    #[error("{0} is not listed in manifest.json")]
    Extra(String),
    /// An entry is a link, folder, pipe or device.
    #[error("{0} is not a regular file")]
    NotRegular(String),
    /// A file has another length than listed.
    #[error("{name} has {found} bytes instead of {expected}")]
    Size { name: String, expected: u64, found: u64 },
    /// A file has the listed length but other content.
    #[error("the content of {name} changed: sha256 {found} instead of {expected}")]
    Hash { name: String, expected: String, found: String },
    /// A file cannot be read.
    #[error("{name} cannot be read: {reason}")]
    Unreadable { name: String, reason: String },
}

/// A checkpoint that was not selected, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        write!(f, "{} passed over: {}", name.display(), self.flaw)
    }
}

fn by_process(process: &Option<String>) -> String {
    process.as_ref().map_or_else(String::new, |id| format!(" (process {id})"))
}

/// The checkpoints there are, oldest first.
fn those(steps: &[u64]) -> String {
    let mut steps = steps.to_vec();
    steps.sort_unstable();
    let names: Vec<String> = steps.iter().map(|step| format!("checkpoint-{step}")).collect();
    match names.as_slice() {
        [] => "there is no checkpoint here".to_string(),
        [one] => format!("there is {one}"),
        several => format!("there are {}", several.join(", ")),
    }
}

fn reasons(passed_over: &[PassedOver]) -> String {
    if passed_over.is_empty() {
        return " (none was written)".to_string();
    }
    let reasons: Vec<String> = passed_over.iter().map(PassedOver::to_string).collect();
    format!(" ({})", reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_become_advice_with_the_path() {
        let path = Path::new("runs/bot");
        let full = RunError::io("writing", path, io::ErrorKind::StorageFull.into());
        assert!(full.to_string().starts_with("runs/bot: the disk is full (writing)"), "{full}");
        for kind in [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied] {
            let error = RunError::io("creating", path, kind.into());
            assert!(error.to_string().starts_with("runs/bot: cannot write here"), "{error}");
        }
    }

    #[test]
    fn every_passed_over_checkpoint_is_named() {
        let error = RunError::NoWholeCheckpoint {
            path: "runs/bot".into(),
            passed_over: vec![PassedOver { path: "runs/bot/checkpoint-5".into(), flaw: Flaw::NoManifest }],
        };
        assert!(error.to_string().contains("checkpoint-5 passed over: it has no manifest.json"), "{error}");
    }
}
