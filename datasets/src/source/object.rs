//! Strict JSON: a row's JSON text becomes an object. Unlike other parsers, [`Strict`] refuses a key that occurs twice
//! in an object, because one of the two values would be lost without a message.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

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

/// The object on one line of a file.
pub(super) fn of_line(line: &[u8], location: &Location) -> Result<Map<String, Value>, DataError> {
    let expected = "one JSON object a line";
    if line.len() > super::input::LONGEST {
        let found = format!("a line longer than {} MiB", super::input::LONGEST >> 20);
        return Err(DataError::row(location, expected, found));
    }
    let text = std::str::from_utf8(line).map_err(|problem| {
        let found = format!("invalid UTF-8 at byte {} of the line", problem.valid_up_to());
        DataError::row(location, expected, found)
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(value) => of_value(value, location, expected),
        Err(problem) => {
            // serde counts lines within the row, so only the column is useful here.
            let found = format!("no JSON ({} at column {})", reason(&problem), problem.column());
            Err(DataError::row(location, expected, found))
        }
    }
}

/// The object that a value must be.
pub(super) fn of_value(value: Value, location: &Location, expected: &str) -> Result<Map<String, Value>, DataError> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(DataError::row(location, expected, format!("{}: {}", kind(&other), shown(&other)))),
    }
}

/// The message of a JSON parser, without its position.
pub(super) fn reason(problem: &serde_json::Error) -> String {
    let text = problem.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_string()
}
