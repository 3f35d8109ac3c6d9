//! Where a command's result goes: standard output, or a file. A full disk behind it is an error like any other, not a panic.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::error::Error;

/// Writes text as it is, at once.
///
/// # Errors
/// Those of the system.
pub fn write(text: fmt::Arguments<'_>) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_fmt(text).and_then(|()| out.flush()).map_err(Error::io(Path::new("standard output")))
}

/// Writes a file that is whole or not there. A pipe or device is written to directly, because a rename would replace it.
///
/// # Errors
/// Those of the system, found before `fill` begins where the folder cannot be written to; and those of `fill`.
pub fn file<T>(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<T, Error>) -> Result<T, Error> {
    let finish = |file: &File| {
        let mut out = BufWriter::new(file);
        let made = fill(&mut out)?;
        out.flush().map_err(Error::io(path))?;
        Ok(made)
    };
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return finish(&File::options().write(true).open(path).map_err(Error::io(path))?);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    // Temporary files are private by default; a result gets the permissions of any new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = builder.tempfile_in(parent.unwrap_or(Path::new("."))).map_err(Error::io(path))?;
    let made = finish(temporary.as_file())?;
    temporary.persist(path).map_err(|error| Error::io(path)(error.error))?;
    Ok(made)
}

/// Writes formatted text to standard output, like `print!`, and gives the error to the caller.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::ui::output::write(format_args!($($argument)*))
    };
}
