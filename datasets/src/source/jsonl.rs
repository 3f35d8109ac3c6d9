//! JSON Lines: [`Jsonl`] reads one object per line. Blank lines are skipped, but counted as lines.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::input::{Input, without_mark};
use super::object;
use super::reader::{Reader, Reading};
use super::row::{Receiver, Row};
use crate::error::DataError;
use crate::location::Location;

/// The reader of `.jsonl` files.
pub(super) struct Jsonl;

impl Reader for Jsonl {
    fn extensions(&self) -> &'static [&'static str] {
        &["jsonl", "ndjson"]
    }

    fn is_text(&self) -> bool {
        true
    }

    fn read(&self, path: &Path, _: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
        let shared: Arc<Path> = Arc::from(path);
        let mut input = Input::open(path)?;
        let mut line = Vec::new();
        for number in 1.. {
            if input.line(&mut line).map_err(unreadable)? == 0 {
                break;
            }
            let text = match number {
                1 => without_mark(&line),
                _ => &line,
            };
            if text.trim_ascii().is_empty() && text.len() <= super::input::LONGEST {
                continue;
            }
            let location = Location::at(&shared, number);
            let bytes = input.take_bytes();
            let row = object::of_line(text, &location).map(|object| Row::new(location, object, bytes));
            if let ControlFlow::Break(()) = receiver(row) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;

    #[test]
    fn blank_lines_count_and_a_byte_order_mark_does_not() {
        let rows = rows("rows.jsonl", b"\xef\xbb\xbf{\"a\":1}\r\n\n  \n{\"a\":2}");
        let lines: Vec<_> = rows.iter().map(|row| row.as_ref().unwrap().0).collect();
        assert_eq!(lines, [1, 4]);
        assert_eq!(rows[1].as_ref().unwrap().1["a"], 2);
    }

    #[test]
    fn a_broken_row_names_its_line_and_the_next_is_read() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let text = format!(
            "{{\"a\":1}}\n{{\"a\":\n[1]\n{{\"a\":\"?\"}}\n{{\"a\":1,\"b\":{{\"c\":1,\"c\":2}}}}\n{{\"a\":1e999}}\n{deep}\n{{}} {{}}\n{{\"a\":2}}\n"
        );
        let mut bytes = text.into_bytes();
        let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
        bytes[at] = 0xff;
        let rows = rows("rows.jsonl", &bytes);
        assert!(rows[0].is_ok() && rows[8].is_ok());
        for (row, said) in [
            (1, "no JSON"),
            (2, "a list"),
            (3, "invalid UTF-8 at byte 6"),
            (4, "the key `c` stands twice"),
            (5, "out of range"),
            (6, "recursion limit"),
            (7, "trailing characters"),
        ] {
            let error = rows[row].as_ref().unwrap_err();
            assert!(error.contains(&format!("rows.jsonl:{}", row + 1)), "{error}");
            assert!(error.contains(said), "{error}");
        }
    }
}
