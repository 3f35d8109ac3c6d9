//! JSON Lines: one object a line. Blank lines are skipped, and counted as lines.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Reader, Receiver, Row, kind, shown};
use crate::error::DataError;
use crate::location::Location;

/// The reader of `.jsonl` files.
pub(super) struct Jsonl;

impl Reader for Jsonl {
    fn extensions(&self) -> &'static [&'static str] {
        &["jsonl", "ndjson"]
    }

    fn read(&self, path: &Path, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
        let shared: Arc<Path> = Arc::from(path);
        let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(unreadable)?);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let bytes = file.read_until(b'\n', &mut line).map_err(unreadable)? as u64;
            if bytes == 0 {
                break;
            }
            let text = match number {
                1 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line),
                _ => &line,
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            let location = Location::at(&shared, number);
            let row = parse(text, &location).map(|object| Row { location, object, bytes });
            if let ControlFlow::Break(()) = receiver(row) {
                break;
            }
        }
        Ok(())
    }
}

fn parse(line: &[u8], location: &Location) -> Result<Map<String, Value>, DataError> {
    let expected = "one JSON object a line";
    let text = std::str::from_utf8(line).map_err(|problem| {
        let found = format!("invalid UTF-8 at byte {} of the line", problem.valid_up_to());
        DataError::row(location, expected, found)
    })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => {
            let found = format!("{}: {}", kind(&other), shown(&other));
            Err(DataError::row(location, expected, found))
        }
        Err(problem) => {
            // serde counts lines within the row; only the column means something here.
            let text = problem.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text).to_string();
            let found = format!("no JSON ({what} at column {})", problem.column());
            Err(DataError::row(location, expected, found))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Vec<Result<(usize, Value), String>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, content).unwrap();
        let mut rows = Vec::new();
        let mut receiver = |row: Result<Row, DataError>| {
            rows.push(row.map(|row| (row.location.line, Value::Object(row.object))).map_err(|error| error.to_string()));
            ControlFlow::Continue(())
        };
        Jsonl.read(&path, &mut receiver).unwrap();
        rows
    }

    #[test]
    fn blank_lines_count_and_a_byte_order_mark_does_not() {
        let rows = read(b"\xef\xbb\xbf{\"a\":1}\r\n\n  \n{\"a\":2}");
        let lines: Vec<_> = rows.iter().map(|row| row.as_ref().unwrap().0).collect();
        assert_eq!(lines, [1, 4]);
        assert_eq!(rows[1].as_ref().unwrap().1["a"], 2);
    }

    #[test]
    fn a_broken_row_names_its_line_and_the_next_is_read() {
        let rows = read(b"{\"a\":1}\n{\"a\":\n[1]\n{\"a\":\"\xff\"}\n{\"a\":2}\n");
        assert!(rows[0].is_ok() && rows[4].is_ok());
        for (row, said) in [(1, "no JSON"), (2, "a list"), (3, "invalid UTF-8 at byte 6")] {
            let error = rows[row].as_ref().unwrap_err();
            assert!(error.contains(&format!("rows.jsonl:{}", row + 1)), "{error}");
            assert!(error.contains(said), "{error}");
        }
    }
}
