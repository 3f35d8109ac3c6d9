//! Access to the keys of a row: required and optional values, and the errors for values of another type.

use serde_json::{Map, Value};

use crate::error::DataError;
use crate::source::{Row, kind, read_as, shown};

/// The names of a row's keys, as messages print them.
pub(super) fn keys(row: &Map<String, Value>) -> String {
    if row.is_empty() {
        return "(none)".into();
    }
    let keys: Vec<_> = row.keys().map(|key| format!("`{key}`")).collect();
    keys.join(", ")
}

/// The value of a required key.
pub(super) fn required<'r>(row: &'r Row, key: &str, what: &str) -> Result<&'r Value, DataError> {
    row.object.get(key).ok_or_else(|| {
        let found = match row.empty.iter().find(|(ours, _)| ours == key) {
            Some((_, theirs)) if matches!(read_as(&row.location.path), "csv" | "tsv") => {
                format!("nothing: the cell `{theirs}` is empty")
            }
            Some((_, theirs)) => format!("nothing: `{theirs}` is null"),
            None => format!("the keys {}", keys(&row.object)),
        };
        DataError::row(&row.location, format!("`{key}` ({what})"), found)
    })
}

/// The text of a required key.
pub(super) fn required_text<'r>(row: &'r Row, key: &str) -> Result<&'r str, DataError> {
    let value = required(row, key, "a string")?;
    value.as_str().ok_or_else(|| wrong(row, key, "a string", value))
}

/// The text of an optional key.
pub(super) fn optional_text<'r>(row: &'r Row, key: &str) -> Result<Option<&'r str>, DataError> {
    match row.object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(row, key, "a string", other)),
    }
}

/// An error about the value of a key.
pub(super) fn wrong(row: &Row, key: &str, what: &str, value: &Value) -> DataError {
    let found = if what.starts_with("a string") { no_text(value) } else { found(value) };
    DataError::row(&row.location, format!("`{key}` to be {what}"), found)
}

/// A value with its type, for a message.
pub(super) fn found(value: &Value) -> String {
    format!("{}: {}", kind(value), shown(value))
}

/// A value where text belongs. Numbers and booleans are answers of tasks that sort rows, which are text too.
pub(super) fn no_text(value: &Value) -> String {
    match value {
        Value::Number(_) | Value::Bool(_) => format!("{}; write it as text, \"{value}\"", found(value)),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => found(value),
    }
}
