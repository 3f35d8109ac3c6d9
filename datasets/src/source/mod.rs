//! Sources: [`read`] turns a data file of any format into rows, each a JSON object with its file and line.
//!
//! A format is one `Reader` in a file of its own and one line in `READERS`. All readers stream: they hold one row at a
//! time, or, for tables, a slice of a row group or a batch.

mod arrays;
pub(crate) mod columns;
mod csv;
mod delimiter;
mod encoding;
mod files;
mod folder;
mod guess;
mod input;
mod ipc;
mod json;
mod jsonl;
mod layout;
mod names;
mod numbers;
mod object;
mod parquet;
mod picture_row;
mod pictures;
mod quiet;
mod reader;
mod remote;
mod row;
mod shape;
mod shards;
mod splits;
mod table;
mod text;

#[cfg(test)]
pub(crate) mod tests;

pub use columns::Columns;
pub(crate) use columns::is_media;
pub use delimiter::Delimiter;
pub use encoding::TextEncoding;
pub use files::{Found, expand, is_remote};
pub use layout::Layout;
pub use names::Names;
pub(crate) use names::find;
pub(crate) use quiet::quietly;
pub use reader::Reading;
pub use remote::{Choose, Fetch, NoFetch, Repository};
pub use row::{Receiver, Row};
pub(crate) use row::{kind, shown, weight};

use std::path::Path;

use crate::error::DataError;
use reader::Reader;

static READERS: [&dyn Reader; 8] = [
    &json::Json { extensions: &["jsonl", "ndjson"], lines: true },
    &json::Json { extensions: &["json"], lines: false },
    &csv::Csv { extensions: &["csv"], separator: b',' },
    &csv::Csv { extensions: &["tsv"], separator: b'\t' },
    &text::Text,
    &parquet::Parquet,
    &ipc::Ipc,
    &shards::Shards,
];

/// Reads a file that is a source of its own. Its ending decides the format.
///
/// # Errors
/// When the ending is unknown, the file as a whole cannot be read, or no row has a column that the recipe names.
pub fn read(path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
    let mut names = Names::new(reading.columns);
    read_one(path, reading, &mut names, receiver)?;
    names.finish(&path.display().to_string())
}

/// Reads one file of a source; call [`Names::finish`] after the last one.
///
/// # Errors
/// When the ending is unknown or the file as a whole cannot be read.
pub fn read_one(
    path: &Path,
    reading: &Reading<'_>,
    names: &mut Names<'_>,
    receiver: &mut Receiver<'_>,
) -> Result<(), DataError> {
    let mut named = |row: Result<Row, DataError>| {
        let flow = receiver(row.and_then(|row| names.rename(row)));
        if flow.is_break() {
            names.stop();
        }
        flow
    };
    read_unnamed(path, reading, &mut named)
}

/// Reads one file of a source under the file's own names, with the columns that are null.
///
/// # Errors
/// When the ending is unknown or the file as a whole cannot be read.
pub(crate) fn read_unnamed(path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
    if let Some(layout) = layout::reads(path, reading.pictures) {
        // A caption is read with its picture.
        return if layout::is_picture(path) { picture_row::read(path, layout, receiver) } else { Ok(()) };
    }
    let reader = reader_of(path).ok_or_else(|| DataError::Source {
        path: path.display().to_string(),
        why: format!("the ending of a data file must be one of {}", endings()),
    })?;
    reader.read(path, reading, receiver)
}

fn reader_of(path: &Path) -> Option<&'static dyn Reader> {
    let compressed = input::compression(path).is_some();
    let path = if compressed { Path::new(path.file_stem()?) } else { path };
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    let reader = READERS.iter().find(|reader| reader.extensions().contains(&ending.as_str())).copied()?;
    (!compressed || reader.is_text()).then_some(reader)
}

/// The ending that stands for the format of a file of that name; empty for no data file.
pub(crate) fn read_as(path: &Path) -> &'static str {
    reader_of(path).and_then(|reader| reader.extensions().first().copied()).unwrap_or_default()
}

/// What users should know of how a file is read; absent where it is as its ending says.
pub(crate) fn remark(path: &Path, reading: &Reading<'_>) -> Option<String> {
    let is_lines = read_as(path) == "jsonl";
    let shape = if is_lines { shape::of(path, reading, true).ok() } else { None };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match shape? {
        shape::Shape::Lines => None,
        shape::Shape::Document => {
            Some(format!("{name} is one JSON document and no row a line; its rows are counted, not its lines"))
        }
    }
}

/// Whether a file of that name is a data file that can be read.
pub fn is_data_file(path: &Path) -> bool {
    reader_of(path).is_some()
}

/// The endings of data files, for messages.
pub(crate) fn endings() -> String {
    let of = |text: bool| {
        let readers = READERS.iter().filter(move |reader| reader.is_text() == text);
        readers.flat_map(|reader| reader.extensions()).map(|ending| format!(".{ending}")).collect::<Vec<_>>().join(", ")
    };
    format!("{} (also with .gz or .zst behind it), {}", of(true), of(false))
}
