//! The JSON files beside a vocabulary, [`object`].

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::DataError;

/// The JSON object in a file of the folder; empty when there is no such file.
pub(crate) fn object(folder: &Path, name: &str) -> Result<Map<String, Value>, DataError> {
    let path = folder.join(name);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(source) => return Err(DataError::Read { path, source }),
    };
    serde_json::from_slice(&bytes)
        .map_err(|problem| DataError::Tokenizer { path, why: format!("expected a JSON object: {problem}") })
}
