//! The picture of a row: [`read`] finds it under `image`, or under `file_name` as the `metadata.jsonl` of an image folder
//! has it. A picture is the path of a file, or its bytes: `{"bytes": .., "path": ..}` as in Parquet files of image
//! datasets, with the bytes in base64 where rows are text, or a `data:` address.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::keys::{found, keys, wrong};
use crate::error::DataError;
use crate::medium::Medium;
use crate::record::Image;
use crate::reference::{Reach, resolve};
use crate::source::Row;

/// The columns that a picture stands in.
pub(super) const COLUMNS: [&str; 2] = ["image", "file_name"];
const WHAT: &str = "the path of a picture, or its bytes";

/// Whether a row has a picture.
pub(super) fn is_in(row: &Map<String, Value>) -> bool {
    COLUMNS.iter().any(|column| row.get(*column).is_some_and(|value| value.is_string() || value.is_object()))
}

/// The picture of a row; `reach` says which files it may name.
///
/// # Errors
/// No picture, a path out of reach, a file that cannot be read, bytes that are no base64.
pub(super) fn read(row: &Row, reach: Reach) -> Result<Image, DataError> {
    let value =
        COLUMNS.iter().find_map(|column| Some((*column, row.object.get(*column).filter(|value| !value.is_null())?)));
    let Some((column, value)) = value else {
        let expected = format!("`image` or `file_name` ({WHAT})");
        return Err(DataError::row(&row.location, expected, format!("the keys {}", keys(&row.object))));
    };
    match value {
        Value::String(text) => match text.strip_prefix("data:") {
            Some(address) => match address.split_once(";base64,") {
                Some((_, encoded)) => in_row(row, column, encoded, ""),
                None => Err(DataError::row(&row.location, "a `data:` address in base64", found(value))),
            },
            None => file(row, column, text, reach),
        },
        Value::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Value::as_str);
            match (text("bytes"), text("path")) {
                (Some(encoded), name) => in_row(row, column, encoded, name.unwrap_or("")),
                (None, Some(path)) => file(row, column, path, reach),
                (None, None) => Err(wrong(row, column, "an object with `bytes` or `path`", value)),
            }
        }
        other => Err(wrong(row, column, WHAT, other)),
    }
}

fn in_row(row: &Row, column: &str, encoded: &str, name: &str) -> Result<Image, DataError> {
    let bytes = STANDARD.decode(encoded.trim()).map_err(|problem| {
        DataError::row(
            &row.location,
            format!("`{column}` to hold bytes in base64"),
            format!("text that is none: {problem}"),
        )
    })?;
    let bytes: Arc<[u8]> = bytes.into();
    Ok(Image { medium: Medium::in_row(Arc::clone(&bytes), name), bytes })
}

fn file(row: &Row, column: &str, path: &str, reach: Reach) -> Result<Image, DataError> {
    if let Some((scheme, _)) = path.split_once("://") {
        let expected = format!("`{column}` to be a path in the folder of the row's own file");
        let said = format!("an address ({scheme}://); pictures are read from disk: download them first");
        return Err(DataError::row(&row.location, expected, said));
    }
    let (medium, bytes) = Medium::file(resolve(path, &row.location, reach)?, &row.location)?;
    Ok(Image { medium, bytes: bytes.into() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::location::Location;

    #[test]
    fn a_picture_is_a_file_or_bytes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("deep")).unwrap();
        std::fs::write(dir.path().join("deep/a.png"), b"abc").unwrap();
        let read = |value: Value| {
            let Value::Object(object) = value else { panic!("an object") };
            let row = Row::new(Location::new(dir.path().join("metadata.jsonl"), 7), object, 0);
            super::read(&row, Reach::Below).map_err(|error| error.to_string())
        };
        let file = read(json!({"file_name": "deep/a.png"})).unwrap();
        assert_eq!((&*file.bytes, file.medium.size), (&b"abc"[..], 3));
        for same in [
            json!({"image": "deep/a.png", "file_name": "gone.png"}),
            json!({"image": {"path": "deep/a.png"}}),
            json!({"image": {"bytes": "YWJj", "path": "b.png"}}),
            json!({"image": {"bytes": "YWJj", "path": null}}),
            json!({"image": "data:image/png;base64,YWJj"}),
        ] {
            let image = read(same).unwrap();
            assert_eq!((&*image.bytes, &image.medium.sha256), (&b"abc"[..], &file.medium.sha256));
        }
        for (bad, said) in [
            (json!({"text": "a"}), "the keys `text`"),
            (json!({"image": 3}), "`image` to be the path"),
            (json!({"image": {}}), "`bytes` or `path`"),
            (json!({"image": {"bytes": "?"}}), "base64"),
            (json!({"image": "data:,abc"}), "in base64"),
            (json!({"image": "https://example.com/a.png"}), "download them first"),
            (json!({"image": "../a.png"}), "allow_outside"),
            (json!({"image": "/etc/passwd"}), "allow_outside"),
            (json!({"image": "deep"}), "no file"),
            (json!({"image": "deep/b.png"}), "looked for"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains("metadata.jsonl:7") && error.contains(said), "{error}");
        }
    }
}
