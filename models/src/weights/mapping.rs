//! A file mapped into memory, to be read and nothing else.
//!
//! A mapped file that another process shortens while it is in use ends this process with SIGBUS; that is the price of
//! not copying gigabytes. Whole files are only ever replaced by renaming, which is safe.

use std::{
    fs::{self, File},
    path::Path,
};

use memmap2::Mmap;

use crate::error::ModelError;

/// Maps the file at `path`; `what` it should be is for the message when it is no file at all.
pub(super) fn map(path: &Path, what: &str) -> Result<Mmap, ModelError> {
    // Asked before opening, because opening a pipe would wait for its writer.
    let kind = fs::metadata(path).map_err(ModelError::io("open", path))?;
    if !kind.is_file() {
        return Err(ModelError::malformed(path, what, "a folder or device"));
    }
    let file = File::open(path).map_err(ModelError::io("open", path))?;
    // SAFETY: the mapping is only read; see the module doc for a file changed underneath.
    unsafe { Mmap::map(&file) }.map_err(ModelError::io("map", path))
}
