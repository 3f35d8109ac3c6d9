//! Files that rows name, as bytes: [`read`], and [`read_again`] once their row was prepared.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::hex::hex;

/// Why a file is refused that is not the one that was prepared.
pub(crate) const CHANGED: &str =
    "the file is another than when its row was prepared; start again, and the row is prepared anew";

/// All bytes of a file, which must not grow while it is read. The error is a phrase about the file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let said = |problem: std::io::Error| format!("cannot be read: {problem}");
    let metadata = std::fs::metadata(path).map_err(said)?;
    // Opening a pipe would wait until another program writes to it.
    if !metadata.is_file() {
        return Err("is no file".into());
    }
    let mut bytes = Vec::new();
    let size = usize::try_from(metadata.len()).map_err(|_| "is too large".to_string())?;
    bytes.try_reserve_exact(size).map_err(|problem| format!("cannot be read: {problem}"))?;
    let mut file = File::open(path).map_err(said)?.take(metadata.len());
    file.read_to_end(&mut bytes).map_err(said)?;
    Ok(bytes)
}

/// The bytes of a file that had `size` bytes with this hash when its row was prepared.
pub(crate) fn read_again(path: &Path, size: u64, sha256: &str) -> Result<Vec<u8>, String> {
    let bytes = read(path)?;
    match bytes.len() as u64 == size && hex(&Sha256::digest(&bytes)) == sha256 {
        true => Ok(bytes),
        false => Err(CHANGED.into()),
    }
}
