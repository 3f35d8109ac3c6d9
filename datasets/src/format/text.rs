//! Format `text`: `{"text": ".."}`, all of whose tokens are trained, as in pre-training.

use serde_json::{Map, Value};

use super::keys::{required, wrong};
use crate::error::DataError;
use crate::record::Content;
use crate::source::Row;

pub(super) fn fits(row: &Map<String, Value>) -> bool {
    row.get("text").is_some_and(Value::is_string)
}

pub(super) fn parse(row: &Row) -> Result<Content, DataError> {
    let value = required(row, "text", "a string")?;
    match value.as_str() {
        Some(text) => Ok(Content::Text(text.to_string())),
        None => Err(wrong(row, "text", "a string", value)),
    }
}
