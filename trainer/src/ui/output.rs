//! Writes a command's result to standard output or a file. A full disk is an error here, not a panic as with
//! `println!`.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use firebrand_files::{Durability, write_file};

use crate::error::Error;

/// Writes text to standard output and flushes it.
///
/// # Errors
/// Those of the system.
pub fn write(text: fmt::Arguments<'_>) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush()).map_err(Error::io(Path::new("standard output")))
}

/// Writes a file that is complete or not there. A pipe or device is written to directly, because a rename would replace
/// it.
///
/// # Errors
/// Those of the system, before `fill` is called if the folder cannot be written to; those of `fill`.
pub fn file<T>(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<T, Error>) -> Result<T, Error> {
    let failed = |error| Error::io(path)(error);
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        let mut out = BufWriter::new(File::options().write(true).open(path).map_err(failed)?);
        let made = fill(&mut out)?;
        out.flush().map_err(failed)?;
        return Ok(made);
    }
    write_file(path, Durability::Cached, failed, fill)
}

/// Writes formatted text to standard output, like `print!`, but returns errors.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::ui::output::write(format_args!($($argument)*))
    };
}
