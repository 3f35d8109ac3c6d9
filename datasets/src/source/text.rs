//! Plain text: [`Text`] reads paragraphs, lines or the whole file as rows, as the recipe says.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::guess::Guess;
use super::input::{Input, LONGEST, without_mark};
use super::reader::{Reader, Reading};
use super::row::{Receiver, Row};
use crate::config::TextRows;
use crate::error::DataError;
use crate::location::Location;

/// The reader of `.txt` files.
pub(super) struct Text;

impl Reader for Text {
    fn extensions(&self) -> &'static [&'static str] {
        &["txt"]
    }

    fn is_text(&self) -> bool {
        true
    }

    fn read(&self, path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
        let shared: Arc<Path> = Arc::from(path);
        let mut input = Input::open(path, reading.encoding)?;
        let guess = Guess::of(path);
        let mut line = Vec::new();
        let mut text: Vec<u8> = Vec::new();
        let mut first = 1;
        for number in 1.. {
            let length = input.line(&mut line).map_err(unreadable)?;
            let content = if number == 1 { without_mark(&line) } else { &line };
            let blank = content.trim_ascii().is_empty();
            let ended = length == 0
                || match reading.text {
                    TextRows::Line => true,
                    TextRows::Paragraph => blank,
                    TextRows::Document => false,
                };
            let belongs = !blank || reading.text == TextRows::Document;
            if belongs {
                if text.is_empty() {
                    first = number;
                }
                if text.len() + content.len() > LONGEST {
                    return Err(unreadable(io::Error::other(format!(
                        "line {number}: the text is longer than {} MiB; choose smaller `text_rows`",
                        LONGEST >> 20
                    ))));
                }
                text.extend_from_slice(content);
            }
            if ended && !text.trim_ascii().is_empty() {
                let location = Location::at(&shared, first);
                let bytes = input.take_bytes();
                let row = object(&text, &location, &guess).map(|object| Row::new(location, object, bytes));
                if let ControlFlow::Break(()) = receiver(row) {
                    break;
                }
                text.clear();
            }
            if length == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// A row from its text, without the line breaks around it.
fn object(text: &[u8], location: &Location, guess: &Guess<'_>) -> Result<Map<String, Value>, DataError> {
    let text = std::str::from_utf8(text).map_err(|problem| {
        let found = format!("invalid UTF-8 at byte {} of the row{guess}", problem.valid_up_to());
        DataError::row(location, "text", found)
    })?;
    let text = text.trim_matches(['\n', '\r']).replace("\r\n", "\n");
    Ok(Map::from_iter([("text".to_string(), Value::String(text))]))
}

#[cfg(test)]
mod tests {
    use super::super::tests::read_with;
    use super::*;

    const TEXT: &[u8] = b"\n\xef\xbb\xbfOne\r\nand two.\n\n \n  Three.\n";

    fn texts(unit: TextRows, content: &[u8]) -> Vec<(usize, String)> {
        let rows = read_with("rows.txt", content, &Reading { text: unit, ..Reading::default() }).unwrap();
        rows.into_iter()
            .map(|row| row.map(|(line, row)| (line, row["text"].as_str().unwrap().to_string())).unwrap())
            .collect()
    }

    #[test]
    fn a_row_is_what_the_recipe_says() {
        let text = &TEXT[1..];
        assert_eq!(texts(TextRows::Line, text), [(1, "One".into()), (2, "and two.".into()), (5, "  Three.".into())]);
        assert_eq!(texts(TextRows::Paragraph, text), [(1, "One\nand two.".into()), (5, "  Three.".into())]);
        assert_eq!(texts(TextRows::Document, text), [(1, "One\nand two.\n\n \n  Three.".into())]);
        for unit in [TextRows::Line, TextRows::Paragraph, TextRows::Document] {
            assert!(texts(unit, b"\n \n").is_empty());
            assert_eq!(texts(unit, b"\n\nno end").len(), 1);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_a_broken_row() {
        let rows = read_with("rows.txt", b"one\n\n\xff\n\nthree", &Reading::default()).unwrap();
        assert!(rows[1].as_ref().unwrap_err().contains("rows.txt:3"));
        assert!(rows[0].is_ok() && rows[2].is_ok());
    }
}
