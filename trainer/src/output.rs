//! Standard output: a command's result. A full disk behind it is an error like any other, not a panic.

use std::fmt;
use std::io::Write;
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

/// Writes formatted text to standard output, like `print!`, and gives the error to the caller.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::output::write(format_args!($($argument)*))
    };
}
