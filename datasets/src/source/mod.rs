//! From a path to rows: every file format becomes the same thing, a JSON object with its file and line.
//!
//! A format is one `Reader` in a file of its own and one line in `READERS`.

mod files;
mod jsonl;
mod table;

pub use files::expand;

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::DataError;
use crate::location::Location;

/// A row as it stood in its file.
#[derive(Debug, Clone)]
pub struct Row {
    /// Where it stood.
    pub location: Location,
    /// Its columns.
    pub object: Map<String, Value>,
    /// How many bytes of its file it took (for tables: its share of the file).
    pub bytes: u64,
}

/// What a reader hands its rows to. A row that is broken is handed over as the error that names it, and reading
/// goes on unless the receiver breaks off.
pub type Receiver<'a> = dyn FnMut(Result<Row, DataError>) -> ControlFlow<()> + 'a;

/// One file format.
trait Reader: Sync {
    /// File-name endings, without the dot.
    fn extensions(&self) -> &'static [&'static str];

    /// Reads `path` from its first to its last row.
    ///
    /// # Errors
    /// When the file as a whole cannot be read.
    fn read(&self, path: &Path, receiver: &mut Receiver<'_>) -> Result<(), DataError>;
}

static READERS: [&dyn Reader; 3] = [&jsonl::Jsonl, &table::Parquet, &table::Csv];

/// Reads a file, its format chosen by its ending.
///
/// # Errors
/// When the ending is unknown or the file as a whole cannot be read.
pub fn read(path: &Path, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
    let reader = reader_of(path).ok_or_else(|| DataError::Source {
        path: path.display().to_string(),
        why: format!("the ending of a data file must be one of {}", endings().join(", ")),
    })?;
    reader.read(path, receiver)
}

fn reader_of(path: &Path) -> Option<&'static dyn Reader> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    READERS.iter().find(|reader| reader.extensions().contains(&ending.as_str())).copied()
}

fn endings() -> Vec<String> {
    READERS.iter().flat_map(|reader| reader.extensions()).map(|ending| format!(".{ending}")).collect()
}

/// Shortens a value for a message.
pub(crate) fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.chars().count() > 60 {
        text = text.chars().take(57).collect::<String>() + "...";
    }
    text
}

/// The JSON name of a value's type.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
