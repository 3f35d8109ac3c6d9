//! Writes files durably and computes their sha256.

use super::RunError;
use firebrand_files::{Durability, write_file};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Replaces `path` by `content`. After a crash it holds the old content or the new, never a part.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), RunError> {
    let failed = |error| RunError::io("writing", path, error);
    write_file(path, Durability::Synced, failed, |file| file.write_all(content).map_err(failed))
}

/// The sha256 of a file in lower-case hexadecimal. The file is read in pieces.
pub fn sha256_file(path: &Path) -> Result<String, RunError> {
    digest(path).map(|(_, hash)| hash).map_err(|error| RunError::io("reading", path, error))
}

/// The sha256 of `bytes` in lower-case hexadecimal.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Length and sha256 of a file.
pub(super) fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((length, hexadecimal(&hasher.finalize()))),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Flushes a file's content to the disk.
pub(super) fn sync_file(path: &Path) -> Result<(), RunError> {
    firebrand_files::sync_file(path).map_err(|error| RunError::io("syncing", path, error))
}

/// Flushes a folder's list of names to the disk, which makes creations and renames in it durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), RunError> {
    firebrand_files::sync_folder(path).map_err(|error| RunError::io("syncing", path, error))
}

/// Reads a small text file.
///
/// # Errors
/// Those of the system. A file of more than `limit` bytes is refused before it is read.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<String> {
    let file = File::open(path)?;
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
    }
    Ok(text)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn sha256_equals_the_standard_vectors() {
        assert_eq!(sha256_bytes(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let content = vec![b'a'; 1_000_000];
        fs::write(&path, &content).unwrap();
        let expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(sha256_file(&path).unwrap(), expected);
        assert_eq!(digest(&path).unwrap(), (1_000_000, expected.to_string()));
    }

    #[test]
    fn an_atomic_write_that_fails_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/run.json");
        let error = write_atomically(&path, b"new").unwrap_err();
        assert!(error.to_string().contains("run.json"), "{error}");
    }

    #[test]
    fn bounded_reading_stops_at_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), "12345");
        assert!(read_bounded(&path, 4).is_err());
    }
}
