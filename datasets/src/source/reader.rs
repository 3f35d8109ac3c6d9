//! The interface of file formats: a [`Reader`] reads one format, as a [`Reading`] tells it.

use std::path::Path;

use super::columns::Columns;
use super::delimiter::Delimiter;
use super::encoding::TextEncoding;
use super::layout::Layout;
use super::row::Receiver;
use crate::config::{SourceConfig, TextRows};
use crate::error::DataError;

/// What a recipe says about reading a source.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Renamed columns.
    pub columns: &'a Columns,
    /// Which part of a plain text file is a row.
    pub text: TextRows,
    /// The encoding of a text file; absent: UTF-8, or what its mark says.
    pub encoding: Option<TextEncoding>,
    /// What separates the cells of a table of text; absent: what its first lines show.
    pub delimiter: Option<Delimiter>,
    /// What pictures have beside them; absent: files of pictures are no data.
    pub pictures: Option<Layout>,
}

impl<'a> From<&'a SourceConfig> for Reading<'a> {
    fn from(source: &'a SourceConfig) -> Self {
        Self {
            columns: &source.columns,
            text: source.text_rows,
            encoding: source.encoding,
            delimiter: source.delimiter,
            pictures: None,
        }
    }
}

impl Default for Reading<'_> {
    fn default() -> Self {
        static NONE: Columns = Columns::none();
        Self { columns: &NONE, text: TextRows::default(), encoding: None, delimiter: None, pictures: None }
    }
}

/// A file format.
pub(super) trait Reader: Sync {
    /// File-name endings, without the dot.
    fn extensions(&self) -> &'static [&'static str];

    /// Whether a file may be compressed as a whole.
    fn is_text(&self) -> bool;

    /// Reads `path` from its first row to its last, including columns that are null.
    ///
    /// # Errors
    /// When the file as a whole cannot be read.
    fn read(&self, path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError>;
}
