//! How much a command tells on stderr: `-q` and `-v`. Errors, warnings and results are always told.

use std::sync::atomic::{AtomicU8, Ordering};

const QUIET: u8 = 0;
const USUAL: u8 = 1;
const VERBOSE: u8 = 2;

static LEVEL: AtomicU8 = AtomicU8::new(USUAL);

/// Sets it for the process, once, before a command begins.
pub fn set(quiet: bool, verbose: bool) {
    let level = match (quiet, verbose) {
        (true, _) => QUIET,
        (false, true) => VERBOSE,
        (false, false) => USUAL,
    };
    LEVEL.store(level, Ordering::Relaxed);
}

/// Whether only errors, warnings and results are told.
pub fn is_quiet() -> bool {
    LEVEL.load(Ordering::Relaxed) == QUIET
}

/// Whether details are told.
pub fn is_verbose() -> bool {
    LEVEL.load(Ordering::Relaxed) == VERBOSE
}

/// A line for the user.
pub fn tell(line: &str) {
    if !is_quiet() {
        eprintln!("{line}");
    }
}

/// A line for a user who wants details.
pub fn detail(line: &str) {
    if is_verbose() {
        eprintln!("{line}");
    }
}
