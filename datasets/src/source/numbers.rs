//! Numbers that JSON has no word for: Python writes `NaN`, `Infinity` and `-Infinity`. [`Numbers`] puts a text in their
//! place while a document is read, and [`settle`] makes null of that text, or an error where the column is used.

use std::io::{self, Read};

use serde_json::{Map, Value};

use super::columns::{Columns, Use};

/// The words, and the texts that stand for them: strings of one character that no text has, and the word.
const WORDS: [(&str, &str); 3] =
    [("NaN", "\u{fdd0}NaN"), ("Infinity", "\u{fdd0}Infinity"), ("-Infinity", "\u{fdd0}-Infinity")];
/// The longest of the words, in bytes.
const LONGEST_WORD: usize = 9;

/// JSON in which the words stand as texts, and objects follow each other without commas.
pub(super) struct Numbers<R> {
    inner: R,
    words: Words,
    /// What was read of `inner` and not passed on, from this place on.
    ready: (Vec<u8>, usize),
    ended: bool,
}

impl<R: Read> Numbers<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, words: Words::default(), ready: (Vec::new(), 0), ended: false }
    }
}

impl<R: Read> Read for Numbers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready.1 == self.ready.0.len() && !self.ended {
            let mut piece = [0; 1 << 13];
            let read = self.inner.read(&mut piece)?;
            let (ready, at) = &mut self.ready;
            ready.clear();
            *at = 0;
            match read {
                0 => {
                    self.ended = true;
                    self.words.flush(ready);
                }
                read => self.words.replace(&piece[..read], ready),
            }
        }
        let (ready, at) = &mut self.ready;
        let count = (ready.len() - *at).min(buffer.len());
        buffer[..count].copy_from_slice(&ready[*at..*at + count]);
        *at += count;
        Ok(count)
    }
}

/// A line in which the words stand as texts; absent where it has none of them.
pub(super) fn replaced(line: &str) -> Option<String> {
    if !WORDS.iter().any(|(word, _)| line.contains(word)) {
        return None;
    }
    let (mut words, mut out) = (Words::default(), Vec::with_capacity(line.len() + 16));
    words.replace(line.as_bytes(), &mut out);
    words.flush(&mut out);
    String::from_utf8(out).ok()
}

/// Replaces words outside of strings; also commas outside of all values, which some programs write after each object.
#[derive(Default)]
struct Words {
    /// Number of lists and objects that are open.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The word that is being read, if it may still be one of ours.
    word: Vec<u8>,
    /// Whether the word that is being read is longer than ours.
    is_long: bool,
}

impl Words {
    fn replace(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for byte in piece.iter().copied() {
            if self.in_string {
                out.push(byte);
                (self.in_string, self.escaped) = match byte {
                    _ if self.escaped => (true, false),
                    b'\\' => (true, true),
                    b'"' => (false, false),
                    _ => (true, false),
                };
            } else if byte.is_ascii_alphanumeric() || byte == b'-' {
                if !self.is_long {
                    self.word.push(byte);
                    if self.word.len() > LONGEST_WORD {
                        out.append(&mut self.word);
                        self.is_long = true;
                    }
                } else {
                    out.push(byte);
                }
            } else {
                self.flush(out);
                match byte {
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
                out.push(if byte == b',' && self.depth == 0 { b' ' } else { byte });
                self.in_string = byte == b'"';
            }
        }
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        match WORDS.iter().find(|(word, _)| word.as_bytes() == self.word) {
            Some((_, text)) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            None => out.extend_from_slice(&self.word),
        }
        self.word.clear();
        self.is_long = false;
    }
}

/// Puts null in the place of each number that JSON has no word for. The error names a column that is used and holds
/// one, and the number; a NaN deep in a column is null as in tables.
pub(super) fn settle(object: &mut Map<String, Value>, columns: &Columns) -> Result<(), (String, &'static str)> {
    for (key, value) in object {
        let is_used = match columns.used(key) {
            Use::Nothing | Use::Media => false,
            Use::Parts(_) | Use::Whole => true,
        };
        let own = value.as_str().and_then(number);
        if let Some(found) = own.or_else(|| nulled(value)).filter(|_| is_used) {
            return Err((key.clone(), found));
        }
        if own.is_some() {
            *value = Value::Null;
        }
    }
    Ok(())
}

/// Puts nulls into a value and returns the first infinite number in it.
fn nulled(value: &mut Value) -> Option<&'static str> {
    match value {
        Value::String(text) => {
            let found = number(text)?;
            *value = Value::Null;
            Some(found).filter(|found| *found != "NaN")
        }
        // All of them, not only up to the first.
        Value::Array(items) => items.iter_mut().map(nulled).fold(None, Option::or),
        Value::Object(fields) => fields.values_mut().map(nulled).fold(None, Option::or),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn number(text: &str) -> Option<&'static str> {
    WORDS.iter().find(|(_, stands)| *stands == text).map(|(word, _)| *word)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_outside_of_strings_are_replaced_however_the_text_is_cut() {
        let text = r#"{"a": NaN, "b \" NaN": "NaN\\", "c": [Infinity,-Infinity,1e5,-123456789012], "d": null}"#;
        let expected = "{\"a\": \"\u{fdd0}NaN\", \"b \\\" NaN\": \"NaN\\\\\", \"c\": [\"\u{fdd0}Infinity\",\"\u{fdd0}-Infinity\",1e5,-123456789012], \"d\": null}";
        assert_eq!(replaced(text).unwrap(), expected);
        for size in [1, 2, 3, 7, 200] {
            struct Pieces<'a>(&'a [u8], usize);
            impl Read for Pieces<'_> {
                fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                    let count = self.1.min(self.0.len()).min(buffer.len());
                    buffer[..count].copy_from_slice(&self.0[..count]);
                    self.0 = &self.0[count..];
                    Ok(count)
                }
            }
            let mut found = String::new();
            Numbers::new(Pieces(text.as_bytes(), size)).read_to_string(&mut found).unwrap();
            assert_eq!(found, expected);
        }
        assert_eq!(replaced("{\"a\": 1}"), None);
    }

    #[test]
    fn they_are_null_where_nothing_uses_them_and_an_error_elsewhere() {
        let object = |text: &str| -> Map<String, Value> { serde_json::from_str(&replaced(text).unwrap()).unwrap() };
        let columns = Columns::from([("completion", "answer.text")]);
        let mut unused = object(
            r#"{"prompt": "p", "score": NaN, "scores": [Infinity, {"x": NaN}], "messages": [{"role": "user", "n": NaN}]}"#,
        );
        settle(&mut unused, &columns).unwrap();
        assert_eq!(
            Value::Object(unused),
            json!({"prompt": "p", "score": null, "scores": [null, {"x": null}], "messages": [{"role": "user", "n": null}]})
        );
        for (text, column, found) in [
            (r#"{"prompt": NaN}"#, "prompt", "NaN"),
            (r#"{"answer": {"text": -Infinity}}"#, "answer", "-Infinity"),
            (r#"{"weight": Infinity}"#, "weight", "Infinity"),
        ] {
            assert_eq!(settle(&mut object(text), &columns), Err((column.to_string(), found)));
        }
    }
}
