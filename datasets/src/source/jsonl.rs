//! JSON Lines: [`read`] reads the objects of each line, usually one. Blank lines are skipped, but counted as lines.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::guess::Guess;
use super::input::{Input, without_mark};
use super::object;
use super::reader::Reading;
use super::row::{Receiver, Row};
use crate::error::DataError;
use crate::location::Location;

/// Reads a file line by line.
///
/// # Errors
/// When the file as a whole cannot be read.
pub(super) fn read(path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let shared: Arc<Path> = Arc::from(path);
    let guess = Guess::of(path);
    let mut input = Input::open(path, reading.encoding)?;
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
        let mut bytes = input.take_bytes();
        let rows = match object::of_line(text, reading.columns, &location, &guess) {
            Ok(objects) => objects
                .into_iter()
                .map(|object| Ok(Row::new(location.clone(), object, std::mem::take(&mut bytes))))
                .collect(),
            Err(problem) => vec![Err(problem)],
        };
        if rows.into_iter().any(|row| receiver(row) == ControlFlow::Break(())) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::rows;

    #[test]
    fn blank_lines_count_and_a_byte_order_mark_does_not() {
        let rows = rows("rows.jsonl", b"\xef\xbb\xbf{\"a\":1}\r\n\n  \n{\"a\":2}");
        let lines: Vec<_> = rows.iter().map(|row| row.as_ref().unwrap().0).collect();
        assert_eq!(lines, [1, 4]);
        assert_eq!(rows[1].as_ref().unwrap().1["a"], 2);
    }

    #[test]
    fn objects_that_follow_each_other_are_rows_wherever_the_line_breaks_are() {
        let expected = [json!({"text": 1}), json!({"text": [2]}), json!({"text": 3})];
        for (text, lines) in [
            ("{\"text\": 1}{\"text\": [2]} {\"text\": 3}\n", [1, 1, 1]),
            ("{\"text\": 1},\n{\"text\": [2]},\n{\"text\": 3},\n", [1, 2, 3]),
            ("{\"text\": 1}, {\"text\": [2]},\n{\"text\": 3}", [1, 1, 2]),
            // In one piece, rows are counted.
            ("[{\"text\": 1}, {\"text\": [2]}, {\"text\": 3}]\n", [1, 2, 3]),
            ("[\n{\"text\": 1},\n{\"text\": [2]},\n{\"text\": 3}\n]", [1, 2, 3]),
            ("{\n  \"text\": 1\n}\n{\n  \"text\": [2]\n}\n{\"text\": 3}", [1, 2, 3]),
            ("{ \"text\":\n1 },\n{ \"text\": [2] },\n{ \"text\": 3 }\n", [1, 2, 3]),
        ] {
            for name in ["rows.jsonl", "rows.json"] {
                let rows: Vec<_> = rows(name, text.as_bytes()).into_iter().map(Result::unwrap).collect();
                assert_eq!(rows.iter().map(|(_, row)| row.clone()).collect::<Vec<_>>(), expected, "{name} {text}");
                if name == "rows.jsonl" {
                    assert_eq!(rows.iter().map(|(line, _)| *line).collect::<Vec<_>>(), lines, "{text}");
                }
            }
        }
    }

    #[test]
    fn numbers_that_json_has_no_word_for_are_null_where_nothing_uses_them() {
        let line = "{\"text\": \"NaN\", \"score\": NaN, \"more\": [Infinity, -Infinity]}";
        let expected = json!({"text": "NaN", "more": [null, null]});
        for (name, text) in [
            ("rows.jsonl", format!("{line}\n")),
            ("rows.json", format!("[{line}]")),
            ("rows.json", format!("{line}\n{line}")),
        ] {
            assert_eq!(rows(name, text.as_bytes())[0].as_ref().unwrap().1, expected, "{name}");
        }
        for name in ["rows.jsonl", "rows.json"] {
            let error = rows(name, b"[{\"text\": NaN}]").remove(0).unwrap_err();
            assert!(error.contains("1: expected a value that JSON has in `text`, found the number NaN"), "{error}");
        }
    }

    #[test]
    fn what_is_no_json_is_named() {
        for (line, said) in [
            ("{'a': 1}", "how Python prints an object; write it with json.dumps"),
            ("{\"a\": None}", "Python's None, True and False"),
            ("{\"a\": \"x\\ud83d y\"}", "half of a character"),
            ("{\"a\": 1,}", "remove the comma after the last entry"),
            ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
            ("<html>", "a page or XML"),
        ] {
            let text = format!("{{\"a\": 0}}\n{line}\n");
            let error = rows("rows.jsonl", text.as_bytes()).remove(1).unwrap_err();
            assert!(error.contains("rows.jsonl:2: expected one JSON object a line") && error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_broken_row_names_its_line_and_the_next_is_read() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let text = format!(
            "{{\"a\":1}}\n{{\"a\":\n[1]\n{{\"a\":\"?\"}}\n{{\"a\":1,\"b\":{{\"c\":1,\"c\":2}}}}\n{{\"a\":1e999}}\n{deep}\n{{}} x\n{{\"a\":2}}\n"
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
            (7, "trailing characters at column 4"),
        ] {
            let error = rows[row].as_ref().unwrap_err();
            assert!(error.contains(&format!("rows.jsonl:{}", row + 1)), "{error}");
            assert!(error.contains(said), "{error}");
        }
    }
}
