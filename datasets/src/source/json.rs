//! JSON files: [`Json`] reads lines, a list of objects, an object around one (`{"version": .., "data": [..]}`), or
//! objects over several lines, whatever the ending of the file says. Outside of lines, rows are read one at a time, and the
//! location of a row is its number in the file.
//!
//! A row may hold lists of objects too (`messages`, answers). An object is taken as one around rows only when exactly
//! one list of objects in it has a name from [`ROWS`] and no key of it is one that rows have. It is taken as a row when
//! it has such a key, or no list at all. Everything else is refused.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::columns::{Columns, Use};
use super::guess::Guess;
use super::input::{Input, LONGEST, without_mark};
use super::numbers::Numbers;
use super::object::{self, Strict};
use super::reader::{Reader, Reading};
use super::row::{Receiver, Row};
use super::shape::{self, Shape};
use crate::error::DataError;
use crate::location::Location;

/// Names of the list of rows in an object around it.
const ROWS: [&str; 16] = [
    "data",
    "dataset",
    "rows",
    "records",
    "examples",
    "samples",
    "instances",
    "items",
    "entries",
    "train",
    "training",
    "validation",
    "valid",
    "dev",
    "test",
    "eval",
];

/// The reader of JSON files. What their first lines show decides whether they are read line by line.
pub(super) struct Json {
    pub extensions: &'static [&'static str],
    /// Whether a file whose first line may be either is read line by line.
    pub lines: bool,
}

impl Reader for Json {
    fn extensions(&self) -> &'static [&'static str] {
        self.extensions
    }

    fn is_text(&self) -> bool {
        true
    }

    fn read(&self, path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        match shape::of(path, reading, self.lines)? {
            Shape::Lines => super::jsonl::read(path, reading, receiver),
            Shape::Document => document(path, reading, receiver),
        }
    }
}

/// Reads a list, an object around one, or objects that follow each other.
fn document(path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
    let mut input = Input::open(path, reading.encoding)?;
    let mut mark = [0; 3];
    let read =
        read_up_to(&mut input, &mut mark).map_err(|source| DataError::Read { path: path.to_path_buf(), source })?;
    let head = without_mark(&mark[..read]).to_vec();
    let taken = input.counter();
    let room = Rc::new(Cell::new(LONGEST));
    let text = Bounded { inner: io::Cursor::new(head).chain(input), room: Rc::clone(&room) };
    let names = reading.columns;
    let path_here = Arc::from(path);
    let mut rows =
        Rows { path: path_here, names, receiver, room, taken, reported: 0, count: 0, stopped: false, single: false };
    let mut deserializer = serde_json::Deserializer::from_reader(BufReader::new(Numbers::new(text)));
    let mut result = Document(&mut rows).deserialize(&mut deserializer);
    // Further objects may follow one that is a row.
    while result.is_ok() && !rows.stopped {
        match deserializer.end() {
            Ok(()) => break,
            Err(_) if std::mem::take(&mut rows.single) => {
                result = Document(&mut rows).deserialize(&mut deserializer);
            }
            Err(problem) => result = Err(problem),
        }
    }
    match result {
        _ if rows.stopped => Ok(()),
        Ok(()) => Ok(()),
        Err(problem) if problem.is_io() => Err(DataError::Read { path: path.to_path_buf(), source: problem.into() }),
        Err(problem) => {
            let reason = object::reason(&problem);
            let more = match reason.contains("unicode code point") {
                true => Guess::of(path).to_string(),
                false => object::hint(&beginning(path), &reason),
            };
            let (line, column) = (problem.line(), problem.column());
            Err(DataError::Source {
                path: path.display().to_string(),
                why: format!("{reason} (line {line}, column {column}, in row {}){more}", rows.count + 1),
            })
        }
    }
}

/// The first bytes of a file as text, for a message.
fn beginning(path: &Path) -> String {
    let mut head = Vec::new();
    let read = super::input::decompressed(path).and_then(|file| file.take(1 << 16).read_to_end(&mut head));
    if read.is_ok() { String::from_utf8_lossy(without_mark(&head)).into_owned() } else { String::new() }
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

/// Text of which at most `room` bytes are read until the caller makes room again.
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

/// Passes the rows of a document on to the receiver.
struct Rows<'a, 'r> {
    path: Arc<Path>,
    names: &'a Columns,
    receiver: &'a mut Receiver<'r>,
    room: Rc<Cell<usize>>,
    taken: Rc<Cell<u64>>,
    reported: u64,
    count: usize,
    stopped: bool,
    /// Whether the last value was an object that is a row.
    single: bool,
}

impl Rows<'_, '_> {
    /// Whether rows have this key: by a format, by the recipe, or as a message.
    fn is_of_rows(&self, key: &str) -> bool {
        !matches!(self.names.used(key), Use::Nothing | Use::Media)
            || ["role", "content", "from", "value"].contains(&key)
    }

    /// An object that is a row, and not one of a list.
    fn alone<E: Error>(&mut self, object: Map<String, Value>) -> Result<(), E> {
        self.single = true;
        self.row(Value::Object(object))
    }

    fn row<E: Error>(&mut self, value: Value) -> Result<(), E> {
        self.count += 1;
        self.room.set(LONGEST);
        let location = Location::at(&self.path, self.count);
        let bytes = self.taken.get() - self.reported;
        self.reported = self.taken.get();
        let row = object::of_value(value, &location, "a list of objects").and_then(|mut object| {
            object::settled(&mut object, self.names, &location)?;
            Ok(Row::new(location, object, bytes))
        });
        match (self.receiver)(row) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                self.stopped = true;
                Err(E::custom("enough"))
            }
        }
    }
}

/// The whole document.
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

    /// A row, or an object around rows. An object that may be both, or neither, is refused: a wrong choice would train
    /// on the wrong data without a message.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let refuse = |why: String| Err(A::Error::custom(why));
        let mut rows: Option<String> = None;
        // The first key that rows have.
        let mut own: Option<String> = None;
        let mut rest = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if rest.contains_key(&key) || rows.as_ref() == Some(&key) {
                return refuse(format!("the key `{key}` stands twice in an object"));
            }
            if own.is_none() && self.0.is_of_rows(&key) {
                own = Some(key.clone());
            }
            if own.is_some() || !ROWS.contains(&key.as_str()) {
                rest.insert(key, entries.next_value_seed(Strict)?);
            } else {
                match (entries.next_value_seed(Member(self.0))?, &rows) {
                    (None, Some(first)) => {
                        return refuse(format!(
                            "two lists that may be the rows, `{first}` and `{key}`: write each into a file of its own, and \
                             name one in [[data.train]] and the other in [[data.eval]]"
                        ));
                    }
                    (None, None) => rows = Some(key),
                    (Some(value), _) => drop(rest.insert(key, value)),
                }
            }
        }
        let is_rows = |(key, _): &(&String, &Value)| ROWS.contains(&key.as_str()) && !self.0.is_of_rows(key);
        let of_objects =
            |(_, value): &(&String, &Value)| value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
        let named = |found: Option<(&String, &Value)>| found.map(|(key, _)| key.clone());
        let help = "write a list of rows, `[{..}]`, or a row a line in a .jsonl file";
        match (rows, own) {
            (Some(rows), None) => match named(rest.iter().find(of_objects)) {
                None => Ok(()),
                Some(other) => refuse(format!("two lists that may be the rows, `{rows}` and `{other}`: {help}")),
            },
            (Some(rows), Some(own)) => {
                refuse(format!("an object that may be a row, with `{own}`, or around the rows in `{rows}`: {help}"))
            }
            (None, Some(own)) => match named(rest.iter().find(|entry| is_rows(entry) && of_objects(entry))) {
                None => self.0.alone(rest),
                Some(rows) => {
                    refuse(format!("an object that may be a row, with `{own}`, or around the rows in `{rows}`: {help}"))
                }
            },
            (None, None) => match named(rest.iter().find(|(_, value)| value.is_array())) {
                None => self.0.alone(rest),
                Some(list) => refuse(format!(
                    "an object that may be a row, or around a list of rows that is called `{list}`: {help}"
                )),
            },
        }
    }
}

/// A value of the object around the rows. Rows are passed on if it is a list; otherwise it is returned.
struct Member<'d, 'a, 'r>(&'d mut Rows<'a, 'r>);

impl<'de> DeserializeSeed<'de> for Member<'_, '_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_, '_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        Document(self.0).visit_seq(items).map(|()| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        Strict.visit_map(entries).map(Some)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Strict.visit_unit().map(Some)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Strict.visit_bool(value).map(Some)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Strict.visit_i64(value).map(Some)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Strict.visit_u64(value).map(Some)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Strict.visit_f64(value).map(Some)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Strict.visit_str(text).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read_with, rows, try_rows};
    use super::super::{Columns, Reading};

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
        assert!(shown("[]").is_empty() && shown("{\"rows\": []}").is_empty());
    }

    #[test]
    fn a_single_object_is_a_row_when_it_has_what_rows_have() {
        for row in [
            r#"{"messages":[{"role":"user","content":"q"}]}"#,
            r#"{"instruction":"i","history":[],"output":"o"}"#,
            r#"{"text":"hi","tags":["a"]}"#,
            r#"{"text":"hi","data":[1,2]}"#,
            r#"{"data":{"a":[1]},"question":"a"}"#,
        ] {
            assert_eq!(shown(row), [format!("1 {row}")]);
            assert_eq!(shown(&row.replace(',', ",\n")), [format!("1 {row}")]);
        }
        let columns = Columns::from([("prompt", "question"), ("completion", "data.text")]);
        let reading = Reading { columns: &columns, ..Reading::default() };
        let row = br#"{"question":"q","data":{"text":"a"},"answers":[{"text":"A"},{"text":"B"}]}"#;
        let rows = read_with("rows.json", row, &reading).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].as_ref().unwrap().1["prompt"], "q");
    }

    #[test]
    fn what_is_no_list_of_rows_says_so() {
        for (text, said) in [
            ("{\"train\": [{\"a\": 1}], \"test\": [{\"a\": 2}]}", "`train` and `test`"),
            ("{\"data\": [{\"a\": 1}], \"features\": [{\"a\": 2}]}", "`data` and `features`"),
            ("{\"text\": \"a\", \"data\": [{\"a\": 1}]}", "with `text`, or around the rows in `data`"),
            ("{\"data\": [{\"a\": 1}], \"text\": \"a\"}", "with `text`, or around the rows in `data`"),
            ("{\"question\":\"q\",\"answers\":[{\"text\":\"A\"},{\"text\":\"B\"}]}", "called `answers`: write a list"),
            ("{\"data\": [], \"data\": []}", "`data` stands twice"),
            ("{\"a\": 1, \"a\": 2}", "`a` stands twice"),
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
