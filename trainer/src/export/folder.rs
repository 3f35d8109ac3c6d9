//! Writes a folder of results that is complete or unchanged: [`write_folder`].

use std::path::Path;

use firebrand_files::Durability;

use crate::error::Error;

/// Fills a folder under a temporary name and renames it to `target` when it is complete, replacing what is there.
///
/// # Errors
/// Those of `fill` and of the file system; then `target` is as it was.
pub fn write_folder(target: &Path, fill: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    firebrand_files::write_folder(target, Durability::Cached, |error| Error::io(target)(error), fill)
}
