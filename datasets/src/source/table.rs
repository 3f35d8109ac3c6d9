//! Tables through polars: Parquet (lists and structs become JSON lists and objects) and CSV (every cell is text,
//! because a column of digits may be prose; an empty cell is an absent key).

use std::fs::File;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use polars::prelude::{AnyValue, Column, CsvReadOptions, DataFrame, ParquetReader, PolarsError, SerReader};
use serde_json::{Map, Value};

use super::{Reader, Receiver, Row};
use crate::error::DataError;
use crate::location::Location;

/// The reader of `.parquet` files.
pub(super) struct Parquet;

impl Reader for Parquet {
    fn extensions(&self) -> &'static [&'static str] {
        &["parquet"]
    }

    fn read(&self, path: &Path, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        let (file, bytes) = open(path)?;
        let table = guarded(path, || ParquetReader::new(file).finish())?;
        rows(path, &table, bytes, receiver);
        Ok(())
    }
}

/// The reader of `.csv` files with a header line.
pub(super) struct Csv;

impl Reader for Csv {
    fn extensions(&self) -> &'static [&'static str] {
        &["csv"]
    }

    fn read(&self, path: &Path, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        let (file, bytes) = open(path)?;
        if bytes == 0 {
            return Ok(());
        }
        let options = CsvReadOptions::default().with_has_header(true).with_infer_schema_length(Some(0));
        let table = guarded(path, || options.into_reader_with_file_handle(file).finish())?;
        rows(path, &table, bytes, receiver);
        Ok(())
    }
}

fn open(path: &Path) -> Result<(File, u64), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    Ok((file, bytes))
}

/// Reads a table; a file that its reader cannot digest is an error, even where the reader would panic.
fn guarded(path: &Path, read: impl FnOnce() -> Result<DataFrame, PolarsError>) -> Result<DataFrame, DataError> {
    let refused = |why: String| DataError::Table { path: path.to_path_buf(), why };
    catch_unwind(AssertUnwindSafe(read))
        .map_err(|_| refused("its reader gave up: the file is damaged, or no such table".into()))?
        .map_err(|problem| refused(problem.to_string()))
}

fn rows(path: &Path, table: &DataFrame, bytes: u64, receiver: &mut Receiver<'_>) {
    let shared: Arc<Path> = Arc::from(path);
    let height = table.height();
    let share = bytes / height.max(1) as u64;
    for index in 0..height {
        let location = Location::at(&shared, index + 1);
        let row = row(table.columns(), index)
            .map_err(|(column, found)| {
                DataError::row(&location, format!("text, numbers, lists or structs in `{column}`"), found)
            })
            .map(|object| Row { location: location.clone(), object, bytes: share });
        if let ControlFlow::Break(()) = receiver(row) {
            return;
        }
    }
}

fn row(columns: &[Column], index: usize) -> Result<Map<String, Value>, (String, String)> {
    let mut object = Map::new();
    for column in columns {
        let name = column.name().to_string();
        let value = column
            .get(index)
            .map_err(|problem| problem.to_string())
            .and_then(|value| json(&value))
            .map_err(|found| (name.clone(), found))?;
        if !value.is_null() {
            object.insert(name, value);
        }
    }
    Ok(object)
}

/// A cell as JSON; `Err` says what stands there when JSON has no such thing.
fn json(value: &AnyValue<'_>) -> Result<Value, String> {
    Ok(match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(value) => (*value).into(),
        AnyValue::String(text) => (*text).into(),
        AnyValue::StringOwned(text) => text.as_str().into(),
        AnyValue::UInt8(value) => (*value).into(),
        AnyValue::UInt16(value) => (*value).into(),
        AnyValue::UInt32(value) => (*value).into(),
        AnyValue::UInt64(value) => (*value).into(),
        AnyValue::Int8(value) => (*value).into(),
        AnyValue::Int16(value) => (*value).into(),
        AnyValue::Int32(value) => (*value).into(),
        AnyValue::Int64(value) => (*value).into(),
        AnyValue::Float32(value) => (*value).into(),
        AnyValue::Float64(value) => (*value).into(),
        AnyValue::List(items) => items.iter().map(|item| json(&item)).collect::<Result<_, _>>().map(Value::Array)?,
        AnyValue::Struct(_, _, fields) => fields
            .iter()
            .zip(value._iter_struct_av())
            .map(|(field, value)| Ok((field.name().to_string(), json(&value)?)))
            .collect::<Result<_, String>>()
            .map(Value::Object)?,
        AnyValue::StructOwned(parts) => parts
            .1
            .iter()
            .zip(&parts.0)
            .map(|(field, value)| Ok((field.name().to_string(), json(value)?)))
            .collect::<Result<_, String>>()
            .map(Value::Object)?,
        other => return Err(format!("a value of type {}", other.dtype())),
    })
}

#[cfg(test)]
mod tests {
    use polars::prelude::{IntoSeries, NamedFrom, ParquetWriter, Series, StructChunked};
    use serde_json::json;

    use super::*;

    fn read(reader: &dyn Reader, path: &Path) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut receiver = |row: Result<Row, DataError>| {
            let row = row.unwrap();
            assert_eq!(row.location.line, rows.len() + 1);
            rows.push(Value::Object(row.object));
            ControlFlow::Continue(())
        };
        reader.read(path, &mut receiver).unwrap();
        rows
    }

    fn messages(roles: &[&str], contents: &[&str]) -> Series {
        let fields = [Series::new("role".into(), roles), Series::new("content".into(), contents)];
        StructChunked::from_series("messages".into(), roles.len(), fields.iter()).unwrap().into_series()
    }

    #[test]
    fn parquet_lists_of_structs_become_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.parquet");
        let chats = Series::new(
            "messages".into(),
            [messages(&["user", "assistant"], &["hi", "hello"]), messages(&["user"], &["bye"])],
        );
        let weight = Series::new("weight".into(), [Some(0.5f64), None]);
        let mut table = DataFrame::new(2, vec![chats.into(), weight.into()]).unwrap();
        ParquetWriter::new(File::create(&path).unwrap()).finish(&mut table).unwrap();
        let rows = read(&Parquet, &path);
        assert_eq!(
            rows[0],
            json!({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], "weight": 0.5})
        );
        assert_eq!(rows[1], json!({"messages": [{"role": "user", "content": "bye"}]}));
    }

    #[test]
    fn csv_cells_are_text_and_empty_ones_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.csv");
        std::fs::write(&path, "prompt,completion\n\"1 + 1, as\na word\",two\n12,\n").unwrap();
        let rows = read(&Csv, &path);
        assert_eq!(rows[0], json!({"prompt": "1 + 1, as\na word", "completion": "two"}));
        assert_eq!(rows[1], json!({"prompt": "12"}));
    }

    #[test]
    fn a_broken_table_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.parquet");
        std::fs::write(&path, b"PAR1 no parquet at all PAR1").unwrap();
        let mut receiver = |_: Result<Row, DataError>| ControlFlow::Continue(());
        let error = Parquet.read(&path, &mut receiver).unwrap_err();
        assert!(error.to_string().contains("rows.parquet"));
    }
}
