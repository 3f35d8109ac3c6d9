//! Strict JSON: a row's JSON text becomes an object. Unlike other parsers, [`Strict`] refuses a key that occurs twice
//! in an object, because one of the two values would be lost without a message.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use super::columns::Columns;
use super::guess::Guess;
use super::numbers;
use super::row::{kind, shown};
use crate::error::DataError;
use crate::location::Location;

/// Reads one value and refuses keys that occur twice in an object.
pub(super) struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Strict)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{key}` stands twice in an object")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// The objects on one line of a file: one, or several where a program wrote no line breaks, with a comma after each or
/// without.
pub(super) fn of_line(
    line: &[u8],
    columns: &Columns,
    location: &Location,
    guess: &Guess<'_>,
) -> Result<Vec<Map<String, Value>>, DataError> {
    let expected = "one JSON object a line";
    if line.len() > super::input::LONGEST {
        let found = format!("a line longer than {} MiB", super::input::LONGEST >> 20);
        return Err(DataError::row(location, expected, found));
    }
    let text = std::str::from_utf8(line).map_err(|problem| {
        let found = format!("invalid UTF-8 at byte {} of the line{guess}", problem.valid_up_to());
        DataError::row(location, expected, found)
    })?;
    let values = values(text).or_else(|problem| match numbers::replaced(text) {
        Some(replaced) => values(&replaced),
        None => Err(problem),
    });
    let values = values.map_err(|problem| {
        // serde counts lines within the row, so only the column is useful here.
        let (reason, column) = (reason(&problem), problem.column());
        DataError::row(location, expected, format!("no JSON ({reason} at column {column}){}", hint(text, &reason)))
    })?;
    let object = |value| {
        let mut object = of_value(value, location, expected)?;
        settled(&mut object, columns, location)?;
        Ok(object)
    };
    values.into_iter().map(object).collect()
}

/// Settles the numbers of a row that JSON has no word for.
pub(super) fn settled(
    object: &mut Map<String, Value>,
    columns: &Columns,
    location: &Location,
) -> Result<(), DataError> {
    numbers::settle(object, columns).map_err(|(column, number)| {
        DataError::row(location, format!("a value that JSON has in `{column}`"), format!("the number {number}"))
    })
}

/// Whether a line is objects and nothing else.
pub(super) fn are_objects(line: &[u8]) -> bool {
    line.len() <= super::input::LONGEST
        && std::str::from_utf8(line).is_ok_and(|text| match values(text) {
            Ok(values) => values.iter().all(Value::is_object),
            Err(_) => numbers::replaced(text).is_some_and(|text| values(&text).is_ok()),
        })
}

/// The values on a line: one, or objects that follow each other.
fn values(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    let mut values = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<One>();
        let Some(One(value)) = stream.next().transpose()? else { break };
        let after = rest.get(stream.byte_offset()..).unwrap_or_default().trim_start();
        let is_object = value.is_object();
        values.push(value);
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
        match rest.starts_with('{') && is_object {
            true => {}
            // A comma after the last object belongs to the next line.
            false if rest.is_empty() && (is_object || after.is_empty()) => break,
            // The parser's own words for what follows.
            false => {
                return Err(serde_json::from_str::<IgnoredAny>(text)
                    .err()
                    .unwrap_or_else(|| Error::custom("trailing characters")));
            }
        }
    }
    Ok(values)
}

/// A value as [`Strict`] reads it.
struct One(Value);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Strict.deserialize(deserializer).map(Self)
    }
}

/// The object that the bytes of a whole file must be.
pub(super) fn value(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    match value.map_err(|problem| format!("no JSON ({})", reason(&problem)))? {
        Value::Object(object) => Ok(object),
        other => Err(format!("a JSON object, found {}", kind(&other))),
    }
}

/// The object that a value must be.
pub(super) fn of_value(value: Value, location: &Location, expected: &str) -> Result<Map<String, Value>, DataError> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(DataError::row(location, expected, format!("{}: {}", kind(&other), shown(&other)))),
    }
}

/// What a text that is no JSON is, and what to do, as the end of a message.
pub(super) fn hint(text: &str, reason: &str) -> String {
    let text = text.trim_start();
    let bare = |word: &str| text.contains(&format!(": {word}")) || text.contains(&format!("[{word}"));
    let said = match reason {
        _ if text.starts_with("{'") || text.starts_with("[{'") => {
            "this is how Python prints an object; write it with json.dumps"
        }
        _ if text.starts_with("version https://git-lfs") => {
            "the file is a pointer of Git LFS and not the data; fetch it with git lfs pull"
        }
        _ if text.starts_with('<') => "the file is a page or XML and no JSON",
        "expected value" | "expected ident" if ["None", "True", "False"].into_iter().any(bare) => {
            "Python's None, True and False are null, true and false in JSON; write it with json.dumps"
        }
        _ if reason.contains("hex escape") || reason.contains("surrogate") => {
            "an escape such as \\ud83d is half of a character, left where text was cut within one; remove it"
        }
        "trailing comma" => "remove the comma after the last entry",
        _ => return String::new(),
    };
    format!("; {said}")
}

/// The message of a JSON parser, without its position.
pub(super) fn reason(problem: &serde_json::Error) -> String {
    let text = problem.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_string()
}
