//! [`Manifest`], the content of `manifest.json`: the list of files that makes a folder a checkpoint.
//!
//! It holds the lengths and sha256 of all other files and is written last, when they are on disk. A
//! folder is trusted only if it holds exactly these files with exactly this content. A manifest may
//! come from elsewhere, so its names are checked before they are used in a path.

use super::files::{digest, read_bounded};
use super::{Flaw, RunError, write_atomically};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";

const FORMAT: &str = "firebrand-checkpoint";
const VERSION: u64 = 1;
/// Largest manifest that is read, in bytes. A real one has a few hundred.
const LARGEST: u64 = 1 << 22;

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u64,
    /// Optimiser steps completed.
    pub step: u64,
    /// The value by which the best checkpoint is chosen (lower is better), if this one was the best
    /// when it was written.
    pub metric: Option<f64>,
    /// Digest by file name, of every file beside the manifest.
    pub files: BTreeMap<String, FileDigest>,
}

/// Length and hash of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDigest {
    /// Length in bytes.
    pub bytes: u64,
    /// sha256 of the content, in lower-case hexadecimal.
    pub sha256: String,
}

/// What is compared with the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Names and lengths. This finds the damage of crashes and full disks without reading the weights.
    Lengths,
    /// Names and every byte.
    Content,
}

impl Manifest {
    /// Hashes every file of `folder`.
    ///
    /// # Errors
    /// A folder that holds anything but regular files.
    pub(super) fn of_folder(folder: &Path, step: u64, metric: Option<f64>) -> Result<Self, RunError> {
        let broken = |flaw| RunError::BrokenCheckpoint { path: folder.to_path_buf(), flaw };
        let mut files = BTreeMap::new();
        for name in regular_files(folder).map_err(broken)? {
            if !is_plain_name(&name) {
                return Err(broken(Flaw::UnsafeName(name)));
            }
            let path = folder.join(&name);
            let (bytes, sha256) = digest(&path).map_err(|error| RunError::io("reading", &path, error))?;
            files.insert(name, FileDigest { bytes, sha256 });
        }
        Ok(Manifest {
            format: FORMAT.to_string(),
            version: VERSION,
            step,
            // JSON has no NaN, and a metric that is not finite is never the best one.
            metric: metric.filter(|value| value.is_finite()),
            files,
        })
    }

    /// Writes `manifest.json` into `folder`, durably.
    pub(super) fn write(&self, folder: &Path) -> Result<(), RunError> {
        let path = folder.join(MANIFEST);
        let mut text =
            serde_json::to_string_pretty(self).map_err(|error| RunError::io("writing", &path, error.into()))?;
        text.push('\n');
        write_atomically(&path, text.as_bytes())
    }

    /// Reads the manifest of `folder` without checking the files it lists.
    pub(super) fn read(folder: &Path) -> Result<Self, Flaw> {
        let path = folder.join(MANIFEST);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_file() => {
                return Err(Flaw::NotRegular(MANIFEST.to_string()));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Flaw::NoManifest),
            Err(error) => return Err(unreadable(MANIFEST, &error)),
        }
        let text = read_bounded(&path, LARGEST).map_err(|error| unreadable(MANIFEST, &error))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| Flaw::Manifest(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(Flaw::Manifest(format!("its format is {:?}, not {FORMAT:?}", manifest.format)));
        }
        if manifest.version != VERSION {
            return Err(Flaw::Manifest(format!("its version is {}, this firebrand reads {VERSION}", manifest.version)));
        }
        match manifest.files.keys().find(|name| !is_plain_name(name)) {
            Some(name) => Err(Flaw::UnsafeName(name.clone())),
            None => Ok(manifest),
        }
    }

    /// Compares `folder` with the manifest.
    pub(super) fn verify(&self, folder: &Path, depth: Depth) -> Result<(), Flaw> {
        let present = regular_files(folder)?;
        if let Some(name) = present.iter().find(|name| !self.files.contains_key(*name)) {
            return Err(Flaw::Extra(name.clone()));
        }
        for (name, expected) in &self.files {
            if !present.contains(name) {
                return Err(Flaw::Missing(name.clone()));
            }
            let path = folder.join(name);
            let bytes = fs::symlink_metadata(&path).map_err(|error| unreadable(name, &error))?.len();
            if bytes != expected.bytes {
                return Err(Flaw::Size { name: name.clone(), expected: expected.bytes, found: bytes });
            }
        }
        if depth == Depth::Content {
            for (name, expected) in &self.files {
                let (_, found) = digest(&folder.join(name)).map_err(|error| unreadable(name, &error))?;
                if found != expected.sha256 {
                    return Err(Flaw::Hash { name: name.clone(), expected: expected.sha256.clone(), found });
                }
            }
        }
        Ok(())
    }
}

/// Names of all files of a checkpoint folder except the manifest. Anything but a regular file is a
/// flaw, because a link could point anywhere and reading a pipe might never end.
fn regular_files(folder: &Path) -> Result<BTreeSet<String>, Flaw> {
    let here = |error: io::Error| unreadable(".", &error);
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(here)? {
        let entry = entry.map_err(here)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().map_err(here)?.is_file() {
            return Err(Flaw::NotRegular(name));
        }
        if name != MANIFEST {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Whether a name stays in its folder on every operating system.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && name != MANIFEST
        && !name.chars().any(|c| matches!(c, '/' | '\\' | ':' | '\u{fffd}') || c.is_control())
}

fn unreadable(name: &str, error: &io::Error) -> Flaw {
    Flaw::Unreadable { name: name.to_string(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Manifest) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("optimizer.safetensors"), b"moments").unwrap();
        fs::write(folder.path().join("state.json"), b"{}").unwrap();
        let manifest = Manifest::of_folder(folder.path(), 7, Some(0.1 + 0.2)).unwrap();
        manifest.write(folder.path()).unwrap();
        (folder, manifest)
    }

    #[test]
    fn a_manifest_round_trips_exactly() {
        let (folder, manifest) = folder();
        let read = Manifest::read(folder.path()).unwrap();
        assert_eq!(read, manifest);
        assert_eq!(read.metric.unwrap().to_bits(), (0.1_f64 + 0.2_f64).to_bits());
        read.verify(folder.path(), Depth::Content).unwrap();
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in ["../state.json", "..", "/etc/passwd", "a/b", "a\\b", "C:x", "", "a\nb", MANIFEST] {
            let (folder, mut manifest) = folder();
            let digest = manifest.files["state.json"].clone();
            manifest.files.insert(name.to_string(), digest);
            manifest.write(folder.path()).unwrap();
            assert_eq!(Manifest::read(folder.path()), Err(Flaw::UnsafeName(name.to_string())));
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_no_checkpoint_files() {
        let (folder, manifest) = folder();
        let path = folder.path().join("state.json");
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), b"{}").unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(outside.path(), &path).unwrap();
        assert_eq!(manifest.verify(folder.path(), Depth::Lengths), Err(Flaw::NotRegular("state.json".into())));
        fs::remove_file(folder.path().join(MANIFEST)).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join(MANIFEST)).unwrap();
        assert_eq!(Manifest::read(folder.path()), Err(Flaw::NotRegular(MANIFEST.into())));
    }

    #[test]
    fn broken_manifests_are_flaws_not_panics() {
        let (folder, manifest) = folder();
        let path = folder.path().join(MANIFEST);
        let whole = serde_json::to_string(&manifest).unwrap();
        for text in [
            "",
            "null",
            "[]",
            "{\"format\": \"other\"}",
            &whole[..whole.len() / 2],
            &whole.replace("firebrand-checkpoint", "other"),
            &whole.replace("\"version\":1", "\"version\":2"),
            &whole.replace("\"step\":7", "\"step\":-7"),
        ] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Manifest::read(folder.path()), Err(Flaw::Manifest(_))), "{text}");
        }
        fs::write(&path, vec![b' '; LARGEST as usize + 1]).unwrap();
        assert!(matches!(Manifest::read(folder.path()), Err(Flaw::Unreadable { .. })));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(Manifest::read(folder.path()), Err(Flaw::Unreadable { .. })));
    }
}
