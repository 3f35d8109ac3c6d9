//! A row between its file and its format, and words for what stands in it.

use std::ops::ControlFlow;

use serde_json::{Map, Value};

use crate::error::DataError;
use crate::location::Location;

/// A row as it stood in its file.
#[derive(Debug, Clone)]
pub struct Row {
    /// Where it stood.
    pub location: Location,
    /// Its columns, without those that are null.
    pub object: Map<String, Value>,
    /// How many bytes of its file were read for it: of the compressed file where it is one, a share of a table.
    pub bytes: u64,
}

/// What a reader hands its rows to. A row that is broken is handed over as the error that names it, and reading
/// goes on unless the receiver breaks off.
pub type Receiver<'a> = dyn FnMut(Result<Row, DataError>) -> ControlFlow<()> + 'a;

/// Shortens a value for a message.
pub(crate) fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.chars().count() > 60 {
        text = text.chars().take(57).collect::<String>() + "...";
    }
    text
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
