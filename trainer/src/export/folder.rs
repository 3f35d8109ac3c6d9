//! A folder of results: whole, or as it was.

use std::path::Path;

use firebrand_files::Durability;

use crate::error::Error;

/// Fills a folder under another name and puts it in place when it is whole, instead of what was there.
///
/// # Errors
/// Those of `fill` and of the file system; then `target` is as it was.
pub fn write_folder(target: &Path, fill: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    firebrand_files::write_folder(target, Durability::Cached, |error| Error::io(target)(error), fill)
}
