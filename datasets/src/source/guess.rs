//! The encoding that a file with bytes that are no UTF-8 seems to have, for messages: [`Guess`].

use std::cell::OnceCell;
use std::fmt;
use std::io::Read;
use std::path::Path;

use super::encoding::{advice, guessed};
use super::input::decompressed;

/// Bytes of a file from which its encoding is guessed.
const HEAD: u64 = 1 << 18;

/// The encoding that a file seems to have, found when it is first asked for.
pub(super) struct Guess<'a> {
    path: &'a Path,
    said: OnceCell<String>,
}

impl<'a> Guess<'a> {
    pub fn of(path: &'a Path) -> Self {
        Self { path, said: OnceCell::new() }
    }
}

/// What the file seems to be in and what to do, as the end of a message about bytes that are no UTF-8.
impl fmt::Display for Guess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.said.get_or_init(|| {
            let mut head = Vec::new();
            let read = decompressed(self.path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
            match read.ok().and_then(|_| guessed(&head)) {
                Some(encoding) => format!("; the file seems to be in {}: {}", encoding.name(), advice(encoding)),
                None => String::new(),
            }
        }))
    }
}
