//! Format `captioned`: a picture and a text that belongs to it, `{"image", "text"}`. In place of `image` stands
//! `file_name`, as in the `metadata.jsonl` of an image folder.

use serde_json::{Map, Value};

use super::image;
use super::keys::optional_text;
use crate::error::DataError;
use crate::record::Content;
use crate::reference::Reach;
use crate::source::Row;

/// Whether the row has a picture and no label that says what it is.
pub(super) fn fits(row: &Map<String, Value>) -> bool {
    image::is_in(row)
}

pub(super) fn parse(row: &Row, reach: Reach) -> Result<Content, DataError> {
    if row.object.contains_key("weight") {
        return Err(DataError::row(&row.location, "a row with a caption and without `weight`", "one"));
    }
    // What a caption lacks is counted by the gate, with the rows whose caption is blank.
    let text = optional_text(row, "text")?.unwrap_or_default().to_string();
    Ok(Content::Captioned { image: image::read(row, reach)?, text })
}
