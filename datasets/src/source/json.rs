//! `.json` files: a list of objects, an object that holds one list of them (`{"version": .., "data": [..]}`), or JSON
//! Lines under another name, which are common. Rows are read one at a time; a row's place is its number in the list.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::input::{Input, LONGEST, without_mark};
use super::object::{self, Strict};
use super::{Reader, Reading, Receiver, Row};
use crate::error::DataError;
use crate::location::Location;

/// Keys that a row has, and an object around rows has not.
const OF_ROWS: [&str; 8] =
    ["messages", "conversations", "input_ids", "prompt", "completion", "chosen", "rejected", "tools"];

/// The reader of `.json` files.
pub(super) struct Json;

impl Reader for Json {
    fn extensions(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn is_text(&self) -> bool {
        true
    }

    fn read(&self, path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        if is_lines(path)? {
            return super::jsonl::Jsonl.read(path, reading, receiver);
        }
        let mut input = Input::open(path)?;
        let mut mark = [0; 3];
        let read =
            read_up_to(&mut input, &mut mark).map_err(|source| DataError::Read { path: path.to_path_buf(), source })?;
        let head = without_mark(&mark[..read]).to_vec();
        let taken = input.counter();
        let room = Rc::new(Cell::new(LONGEST));
        let text = BufReader::new(Bounded { inner: io::Cursor::new(head).chain(input), room: Rc::clone(&room) });
        let mut rows = Rows { path: Arc::from(path), receiver, room, taken, reported: 0, count: 0, stopped: false };
        let mut deserializer = serde_json::Deserializer::from_reader(text);
        let result = Document(&mut rows).deserialize(&mut deserializer).and_then(|()| deserializer.end());
        match result {
            _ if rows.stopped => Ok(()),
            Ok(()) => Ok(()),
            Err(problem) if problem.is_io() => {
                Err(DataError::Read { path: path.to_path_buf(), source: problem.into() })
            }
            Err(problem) => Err(DataError::Source {
                path: path.display().to_string(),
                why: format!(
                    "{} (line {}, column {}, in row {})",
                    object::reason(&problem),
                    problem.line(),
                    problem.column(),
                    rows.count + 1
                ),
            }),
        }
    }
}

/// Whether a `.json` file is JSON Lines: its first line is an object by itself, and another follows, or it is a row.
fn is_lines(path: &Path) -> Result<bool, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let mut input = Input::open(path)?;
    let start = without_mark(input.fill_buf().map_err(unreadable)?).trim_ascii_start();
    if start.first().is_some_and(|byte| *byte != b'{') {
        return Ok(false);
    }
    let mut line = Vec::new();
    let mut first: Option<Map<String, Value>> = None;
    while input.line(&mut line).map_err(unreadable)? > 0 {
        let text = without_mark(&line).trim_ascii();
        if text.is_empty() {
            continue;
        }
        match first {
            // A second line that goes on with another object.
            Some(_) => return Ok(text.starts_with(b"{")),
            None => match serde_json::from_slice(text) {
                Ok(Value::Object(object)) => first = Some(object),
                _ => return Ok(false),
            },
        }
    }
    Ok(first.is_some_and(|first| {
        OF_ROWS.iter().any(|key| first.contains_key(*key)) || !first.values().any(Value::is_array)
    }))
}

fn read_up_to(input: &mut Input, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match input.read(&mut buffer[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

/// Text of which no more than `room` is read until somebody makes room again.
struct Bounded<R> {
    inner: R,
    room: Rc<Cell<usize>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room.get();
        if room == 0 {
            return Err(io::Error::other(format!("a row is longer than {} MiB", LONGEST >> 20)));
        }
        let read = self.inner.read(buffer)?;
        self.room.set(room.saturating_sub(read));
        Ok(read)
    }
}

/// Where the rows of a document go.
struct Rows<'a, 'r> {
    path: Arc<Path>,
    receiver: &'a mut Receiver<'r>,
    room: Rc<Cell<usize>>,
    taken: Rc<Cell<u64>>,
    reported: u64,
    count: usize,
    stopped: bool,
}

impl Rows<'_, '_> {
    fn row<E: Error>(&mut self, value: Value) -> Result<(), E> {
        self.count += 1;
        self.room.set(LONGEST);
        let location = Location::at(&self.path, self.count);
        let bytes = self.taken.get() - self.reported;
        self.reported = self.taken.get();
        let row = object::of_value(value, &location, "a list of objects").map(|object| Row { location, object, bytes });
        match (self.receiver)(row) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                self.stopped = true;
                Err(E::custom("enough"))
            }
        }
    }
}

/// The whole file.
struct Document<'d, 'a, 'r>(&'d mut Rows<'a, 'r>);

impl<'de> DeserializeSeed<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects, or an object that holds one")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element_seed(Strict)? {
            self.0.row(item)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut from: Option<String> = None;
        while let Some(key) = entries.next_key::<String>()? {
            let refuse = |why: String| Err(A::Error::custom(why));
            if OF_ROWS.contains(&key.as_str()) {
                return refuse(format!(
                    "the file is one object with the key `{key}`, a single row: write a list of rows"
                ));
            }
            if !entries.next_value_seed(Member(self.0))? {
                continue;
            }
            if let Some(first) = &from {
                return refuse(format!("two lists that may be the rows, `{first}` and `{key}`"));
            }
            from = Some(key);
        }
        match from {
            Some(_) => Ok(()),
            None => Err(A::Error::custom("an object without a list of rows in it")),
        }
    }
}

/// A value of the object around the rows: the rows, where it is a list.
struct Member<'d, 'a, 'r>(&'d mut Rows<'a, 'r>);

impl<'de> DeserializeSeed<'de> for Member<'_, '_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_, '_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<bool, A::Error> {
        Document(self.0).visit_seq(items).map(|()| true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<bool, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{rows, try_rows};

    fn shown(text: &str) -> Vec<String> {
        rows("rows.json", text.as_bytes())
            .into_iter()
            .map(|row| row.map_or_else(|error| error, |(line, value)| format!("{line} {value}")))
            .collect()
    }

    #[test]
    fn a_list_an_object_around_a_list_and_lines_are_the_same_rows() {
        let expected = ["1 {\"a\":1}", "2 {\"a\":[2]}"];
        for text in [
            "[{\"a\": 1},\n {\"a\": [2]}]",
            "\u{feff}[{\"a\": 1}, {\"a\": [2]}]\n",
            "{\"version\": \"1\", \"about\": {\"list\": [1]}, \"data\": [{\"a\": 1}, {\"a\": [2]}], \"n\": 2}",
            "{\n\"train\": [\n{\"a\": 1},\n{\"a\": [2]}\n]\n}",
            "{\"a\": 1}\r\n{\"a\": [2]}\r\n",
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(shown("{\"messages\": []}"), ["1 {\"messages\":[]}"]);
        assert_eq!(shown("{\"question\": \"a\"}\n"), ["1 {\"question\":\"a\"}"]);
        assert!(shown("[]").is_empty() && shown("{\"rows\": []}").is_empty());
    }

    #[test]
    fn what_is_no_list_of_rows_says_so() {
        for (text, said) in [
            ("{\"train\": [{\"a\": 1}], \"test\": [{\"a\": 2}]}", "`train` and `test`"),
            ("{\n\"messages\": []\n}", "a single row"),
            ("{\n\"a\": 1}", "without a list"),
            ("[{\"a\": 1}, {\"a\"", "in row 2"),
            ("[{\"a\": 1}] [", "trailing characters"),
            ("[{\"a\": 1, \"a\": 2}]", "stands twice"),
            ("7", "a list of objects"),
            ("", "EOF"),
        ] {
            let error = try_rows("rows.json", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("rows.json") && error.contains(said), "{error}");
        }
        let mixed = shown("[{\"a\": 1}, 7, {\"a\": 2}]");
        assert!(mixed[1].contains("rows.json:2") && mixed[1].contains("a number: 7"), "{}", mixed[1]);
        assert_eq!(mixed[2], "3 {\"a\":2}");
    }
}
