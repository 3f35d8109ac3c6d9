//! CSV and TSV: tables of text with a header line, commas (`.csv`) or tabs (`.tsv`) between the cells, or what the recipe or
//! the header shows (`delimiter`), and quotes around cells that contain a separator. Every cell is text, because a column of digits may be prose; an empty cell is
//! an absent key.
//!
//! The `csv` crate reads them, not polars: it streams in bounded memory, knows the line of a row, and can read from a
//! decompressor.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use csv::{ByteRecord, ReaderBuilder, Terminator};
use serde_json::{Map, Value};

use super::delimiter;
use super::guess::Guess;
use super::input::{Input, LONGEST, without_mark};
use super::reader::{Reader, Reading};
use super::row::{Receiver, Row};
use crate::error::DataError;
use crate::location::Location;

/// The reader of tables whose cells are usually separated by `separator`.
pub(super) struct Csv {
    pub extensions: &'static [&'static str],
    pub separator: u8,
}

impl Reader for Csv {
    fn extensions(&self) -> &'static [&'static str] {
        self.extensions
    }

    fn is_text(&self) -> bool {
        true
    }

    fn read(&self, path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        let refused = |problem: csv::Error| match problem.into_kind() {
            csv::ErrorKind::Io(source) => DataError::Read { path: path.to_path_buf(), source },
            other => DataError::Table { path: path.to_path_buf(), why: format!("{other:?}") },
        };
        let shared: Arc<Path> = Arc::from(path);
        let mut input = Input::open(path, reading.encoding)?;
        let guess = Guess::of(path);
        let taken = input.counter();
        let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
        let start = without_mark(input.fill_buf().map_err(unreadable)?);
        let (separator, skipped) = match (reading.delimiter, delimiter::named(start)) {
            (asked, Some((named, length))) => (asked.map_or(named, |asked| asked.0), length),
            (Some(asked), None) => (asked.0, 0),
            (None, None) => (delimiter::found(start, self.separator), 0),
        };
        // The line in which Excel names the separator is no header.
        if skipped > 0 {
            input.line(&mut Vec::new()).map_err(unreadable)?;
        }
        let before = usize::from(skipped > 0);
        let (room, end) = (Rc::new(Cell::new(LONGEST)), Rc::new(Cell::new(End::Ahead)));
        let mut reader = ReaderBuilder::new()
            .delimiter(separator)
            .has_headers(false)
            .flexible(true)
            // With `\r\n` as the terminator the crate's line numbers are off by one; the `\r` is removed below.
            .terminator(Terminator::Any(b'\n'))
            .from_reader(Bounded { input, room: Rc::clone(&room), end: Rc::clone(&end) });
        let mut record = ByteRecord::new();
        let mut reported = 0;
        if !reader.read_byte_record(&mut record).map_err(refused)? {
            return Ok(());
        }
        if end.get() == End::Passed {
            let why = "the names of the columns have a quote that is never closed".into();
            return Err(DataError::Table { path: path.to_path_buf(), why });
        }
        let header = header(path, &record, &guess)?;
        loop {
            room.set(LONGEST);
            if !reader.read_byte_record(&mut record).map_err(refused)? {
                return Ok(());
            }
            if record.len() == 1 && record[0].trim_ascii().is_empty() {
                continue;
            }
            // The position of a record includes the blank lines before it, so its line is counted back from the
            // position after it.
            let breaks = record.as_slice().iter().filter(|byte| **byte == b'\n').count();
            let unclosed = end.get() == End::Passed;
            let after = before + reader.position().line() as usize;
            let location = Location::at(&shared, after.saturating_sub(breaks + usize::from(!unclosed)));
            let bytes = taken.get() - reported;
            reported = taken.get();
            let row = match unclosed {
                true => Err(DataError::row(&location, "cells", "a quote that is never closed")),
                false => cells(&header, &record, &location, &guess).map(|object| Row::new(location, object, bytes)),
            };
            if let ControlFlow::Break(()) = receiver(row) {
                return Ok(());
            }
        }
    }
}

/// The names of the columns, from the header line.
fn header(path: &Path, record: &ByteRecord, guess: &Guess<'_>) -> Result<Vec<String>, DataError> {
    let refuse = |why: String| DataError::Table { path: path.to_path_buf(), why };
    let mut names: Vec<String> = Vec::new();
    for (index, cell) in record.iter().enumerate() {
        let cell = if index == 0 { without_mark(cell) } else { cell };
        let name = std::str::from_utf8(cell)
            .map_err(|_| refuse(format!("the names of the columns are not UTF-8{guess}")))?
            .trim()
            .to_string();
        if names.contains(&name) {
            return Err(refuse(format!("two columns have the name `{name}`")));
        }
        names.push(name);
    }
    Ok(names)
}

fn cells(
    header: &[String],
    record: &ByteRecord,
    location: &Location,
    guess: &Guess<'_>,
) -> Result<Map<String, Value>, DataError> {
    if record.len() != header.len() {
        let expected = format!("{} cells, as many as the header has", header.len());
        return Err(DataError::row(location, expected, format!("{} cells", record.len())));
    }
    let mut object = Map::new();
    for (index, (name, cell)) in header.iter().zip(record).enumerate() {
        let cell = if index + 1 == header.len() { cell.strip_suffix(b"\r").unwrap_or(cell) } else { cell };
        let text = std::str::from_utf8(cell).map_err(|problem| {
            let found = format!("invalid UTF-8 at byte {} of the cell{guess}", problem.valid_up_to());
            DataError::row(location, format!("text in `{name}`"), found)
        })?;
        let value = if text.is_empty() { Value::Null } else { text.into() };
        object.insert(name.clone(), value);
    }
    Ok(object)
}

/// Text of which at most `room` bytes are read until the caller makes room again: an open quote would take in all the
/// rest.
///
/// A line break is added after the last byte of the file. A row that still reaches the end of the file has an open
/// quote, which the `csv` crate does not report.
struct Bounded {
    input: Input,
    room: Rc<Cell<usize>>,
    end: Rc<Cell<End>>,
}

/// How far reading has come at the end of the text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Ahead,
    /// The added line break was read.
    Broken,
    /// The end was read after it.
    Passed,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room.get();
        if room == 0 {
            let why = format!("a row is longer than {} MiB: is a quote left open?", LONGEST >> 20);
            return Err(io::Error::other(why));
        }
        let read = self.input.read(buffer)?;
        self.room.set(room.saturating_sub(read));
        match (read, buffer.first_mut()) {
            (0, Some(first)) if self.end.get() == End::Ahead => {
                *first = b'\n';
                self.end.set(End::Broken);
                Ok(1)
            }
            (0, Some(_)) => {
                self.end.set(End::Passed);
                Ok(0)
            }
            _ => Ok(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Delimiter;
    use super::super::tests::{read_with, rows, try_rows};
    use super::Reading;

    #[test]
    fn cells_are_text_and_empty_ones_absent() {
        let rows =
            rows("rows.csv", b"\xef\xbb\xbfprompt, completion\r\n\"1 + 1, as\na \"\"word\"\"\",two\r\n12,\r\n\r\n");
        let rows: Vec<_> = rows.into_iter().map(Result::unwrap).collect();
        assert_eq!(rows[0], (2, json!({"prompt": "1 + 1, as\na \"word\"", "completion": "two"})));
        // The row before it has two lines.
        assert_eq!(rows[1], (4, json!({"prompt": "12"})));
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn tabs_separate_the_cells_of_a_tsv() {
        let rows = rows("rows.tsv", b"a\tb\n1,5\tx\n");
        assert_eq!(rows[0], Ok((2, json!({"a": "1,5", "b": "x"}))));
    }

    #[test]
    fn the_separator_is_found_or_told() {
        let expected = [Ok((2, json!({"a": "1,5", "b": "x"}))), Ok((3, json!({"a": "2", "b": "y; z"})))];
        for (name, text) in [
            ("rows.csv", "a;b\n1,5;x\n2;\"y; z\"\n"),
            ("rows.csv", "\u{feff}a\tb\r\n1,5\tx\r\n2\ty; z\r\n"),
            ("rows.tsv", "a|b\n1,5|x\n2|y; z\n"),
        ] {
            assert_eq!(rows(name, text.as_bytes()), expected, "{text}");
        }
        let excel = rows("rows.csv", b"sep=;\r\na;b\r\n1,5;x\r\n");
        assert_eq!(excel, [Ok((3, json!({"a": "1,5", "b": "x"})))]);
        let delimiter = Some(Delimiter::try_from("^".to_string()).unwrap());
        let told = read_with("rows.csv", b"a^b,c\n1^2,3\n", &Reading { delimiter, ..Reading::default() }).unwrap();
        assert_eq!(told, [Ok((2, json!({"a": "1", "b,c": "2,3"})))]);
    }

    #[test]
    fn broken_rows_are_named_and_a_double_name_is_refused() {
        let rows = rows("rows.csv", b"a,b\n1\n\"\xff\",2\n3,4\n");
        assert!(rows[0].as_ref().unwrap_err().contains("rows.csv:2: expected 2 cells"));
        assert!(rows[1].as_ref().unwrap_err().contains("invalid UTF-8"));
        assert_eq!(rows[2], Ok((4, json!({"a": "3", "b": "4"}))));
        let error = try_rows("rows.csv", b"a,a\n1,2\n").unwrap_err().to_string();
        assert!(error.contains("`a`"), "{error}");
        assert!(try_rows("rows.csv", b"").unwrap().is_empty());
    }

    #[test]
    fn a_quote_that_is_never_closed_breaks_the_row_it_is_in() {
        let said = "expected cells, found a quote that is never closed";
        for (text, line) in [
            ("prompt,completion\nq1,a1\n\nq2,\"a2\nq3,a3\n", 4),
            ("prompt,completion\nq1,a1\nq2,\"", 3),
            ("prompt,completion\nq1,a1\nq2,\"a\"\"", 3),
            ("prompt,completion\nq1,a1\n\"q2,a2\r\n\r\n", 3),
        ] {
            let rows = rows("rows.csv", text.as_bytes());
            assert_eq!(rows.len(), 2, "{text}");
            assert!(rows[0].is_ok(), "{text}");
            assert!(rows[1].as_ref().unwrap_err().ends_with(&format!("rows.csv:{line}: {said}")), "{:?}", rows[1]);
        }
        for text in ["a,b\n1,\"2\"", "a,b\n1,2", "a,b\n1,\"2\"\n\n", "a,b\r\n1,\"2\"\r\n"] {
            assert_eq!(rows("rows.csv", text.as_bytes()), [Ok((2, json!({"a": "1", "b": "2"})))], "{text}");
        }
        let error = try_rows("rows.csv", b"a,\"b\n1,2\n").unwrap_err().to_string();
        assert!(error.contains("never closed"), "{error}");
        assert!(try_rows("rows.csv", b"a,b").unwrap().is_empty());
    }

    #[test]
    fn a_row_stands_where_its_own_first_line_is() {
        let found = rows("rows.csv", b"text,x\n\n\na,1\n\n\n\n\"b\nc\",2\n\r\n\r\nd,3");
        let lines: Vec<_> = found.into_iter().map(|row| row.unwrap().0).collect();
        assert_eq!(lines, [4, 8, 12]);
    }
}
