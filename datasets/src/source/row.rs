//! Rows as they are read: [`Row`] is an object with its location. Also the words for values in messages.

use std::ops::ControlFlow;

use serde_json::{Map, Value};

use crate::error::DataError;
use crate::location::Location;

/// A row as it stands in its file.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its file and line.
    pub location: Location,
    /// Its columns, without those that are null.
    pub object: Map<String, Value>,
    /// Of the columns that formats know, those that are null: our name and the file's.
    pub empty: Vec<(String, String)>,
    /// Number of bytes read for it: of the compressed file where there is one, an equal share of a table.
    pub bytes: u64,
}

impl Row {
    /// The row `object` at `location`, for which `bytes` were read.
    pub fn new(location: Location, object: Map<String, Value>, bytes: u64) -> Self {
        Self { location, object, empty: Vec::new(), bytes }
    }
}

/// Receives the rows of a reader. A broken row is passed as the error that names it. Reading goes on until the receiver
/// returns `Break`.
pub type Receiver<'a> = dyn FnMut(Result<Row, DataError>) -> ControlFlow<()> + 'a;

/// Shortens a value for a message.
pub(crate) fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.chars().count() > 60 {
        text = text.chars().take(57).collect::<String>() + "...";
    }
    text
}

/// The approximate memory of a row in bytes: more than in its file, where the file is compressed.
pub(crate) fn weight(object: &Map<String, Value>) -> usize {
    fn of(value: &Value) -> usize {
        const EACH: usize = 48;
        match value {
            Value::String(text) => EACH + text.len(),
            Value::Array(items) => EACH + items.iter().map(of).sum::<usize>(),
            Value::Object(object) => EACH + weight(object),
            Value::Null | Value::Bool(_) | Value::Number(_) => EACH,
        }
    }
    object.iter().map(|(key, value)| key.len() + of(value)).sum()
}

/// The JSON name of a value's type.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
