//! The place of a row: [`Location`] is its file and line, which every message names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// The place of one row. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The path of the file, as it was found.
    pub path: Arc<Path>,
    /// One-based line of a JSONL file, one-based row of a table.
    pub line: usize,
}

impl Location {
    /// The place of row `line` of `path`.
    pub fn new(path: impl Into<PathBuf>, line: usize) -> Self {
        Self { path: Arc::from(path.into()), line }
    }

    /// Row `line` of the same file.
    pub(crate) fn at(path: &Arc<Path>, line: usize) -> Self {
        Self { path: Arc::clone(path), line }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Serialised as `{"file": .., "line": ..}`; a path that is not UTF-8 is converted lossily.
impl Serialize for Location {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Location", 2)?;
        out.serialize_field("file", &self.path.to_string_lossy())?;
        out.serialize_field("line", &self.line)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn location_shows_file_and_line() {
        let location = Location::new("data/faq.jsonl", 7);
        assert_eq!(location.to_string(), "data/faq.jsonl:7");
        let json = serde_json::to_string(&location).unwrap();
        assert_eq!(json, r#"{"file":"data/faq.jsonl","line":7}"#);
    }
}
