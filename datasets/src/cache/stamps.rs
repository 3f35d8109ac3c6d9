//! Remembered hashes of data files: [`hash_files`] reads 10 GB once and not at every start.
//!
//! A remembered hash is trusted while the file has the same path, size, modification time (to the nanosecond, as far as
//! the file system gives it) and inode. A program that changes a file and restores all of these is not noticed;
//! `data.cache = "off"` always reads the file.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Cache;
use crate::error::DataError;
use crate::hex::hex;

/// A file with its hash, and its stamp when it was hashed.
#[derive(Debug, Clone)]
pub(crate) struct Hashed {
    pub path: PathBuf,
    pub sha256: String,
    stamp: Option<String>,
}

impl Hashed {
    /// Whether the file still looks as it did before it was hashed.
    pub fn is_unchanged(&self) -> bool {
        self.stamp.is_none() || fs::metadata(&self.path).ok().and_then(|metadata| stamp(&metadata)) == self.stamp
    }
}

/// The hashes of files, in the order of `files`. Files whose hash `cache` remembers are not read.
pub(crate) fn hash_files(files: &[PathBuf], cache: Option<&Cache>) -> Result<Vec<Hashed>, DataError> {
    files.par_iter().map(|path| hash_file(path, cache)).collect()
}

fn hash_file(path: &Path, cache: Option<&Cache>) -> Result<Hashed, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let stamp = stamp(&fs::metadata(path).map_err(unreadable)?);
    let note = cache.and_then(|cache| note(cache, path));
    let hashed = |sha256| Hashed { path: path.to_path_buf(), sha256, stamp: stamp.clone() };
    if let (Some(stamp), Some(note)) = (&stamp, &note)
        && let Some((noted, sha256)) = fs::read_to_string(note).ok().as_deref().and_then(|text| text.split_once('\n'))
        && noted == stamp
        && sha256.len() == 64
    {
        return Ok(hashed(sha256.to_string()));
    }
    let hashed = hashed(sha256(path)?);
    // This only saves time; a cache that can only be read works too.
    if let (Some(stamp), Some(note)) = (&stamp, note)
        && hashed.is_unchanged()
    {
        let _ = remember(&note, &format!("{stamp}\n{}", hashed.sha256));
    }
    Ok(hashed)
}

/// A text that changes when the content of a file does, as far as the file system tells.
fn stamp(metadata: &Metadata) -> Option<String> {
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some(format!("{} {} {inode}", metadata.len(), modified.as_nanos()))
}

fn note(cache: &Cache, path: &Path) -> Option<PathBuf> {
    let whole = fs::canonicalize(path).ok()?;
    Some(cache.folder().join("files").join(hex(&Sha256::digest(whole.as_os_str().as_encoded_bytes()))))
}

/// Writes the file under another name and renames it, so that readers see all of it or nothing.
fn remember(note: &Path, text: &str) -> std::io::Result<()> {
    let folder = note.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let staged = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(staged.path(), text)?;
    staged.persist(note)?;
    Ok(())
}

fn sha256(path: &Path) -> Result<String, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}
