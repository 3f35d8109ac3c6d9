//! What a reader of a file format is, and what it is told.

use std::path::Path;

use super::columns::Columns;
use super::row::Receiver;
use crate::config::{SourceConfig, TextRows};
use crate::error::DataError;

/// What a recipe says about reading a source.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Other names for columns.
    pub columns: &'a Columns,
    /// What a row of plain text is.
    pub text: TextRows,
}

impl<'a> From<&'a SourceConfig> for Reading<'a> {
    fn from(source: &'a SourceConfig) -> Self {
        Self { columns: &source.columns, text: source.text_rows }
    }
}

impl Default for Reading<'_> {
    fn default() -> Self {
        static NONE: Columns = Columns::none();
        Self { columns: &NONE, text: TextRows::default() }
    }
}

/// One file format.
pub(super) trait Reader: Sync {
    /// File-name endings, without the dot.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether a file may be compressed as a whole.
    fn is_text(&self) -> bool;

    /// Reads `path` from its first to its last row, columns that are null included.
    ///
    /// # Errors
    /// When the file as a whole cannot be read.
    fn read(&self, path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError>;
}
