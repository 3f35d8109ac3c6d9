//! Pictures as rows: [`read`] makes a row of a picture and of what it has beside it.

use std::path::Path;

use serde_json::Map;

use super::layout::Layout;
use super::row::{Receiver, Row};
use crate::error::DataError;
use crate::location::Location;

/// The most bytes of a caption.
const LONGEST: u64 = 1 << 20;

/// Passes on the row of a picture.
///
/// # Errors
/// A caption that cannot be read, is too long, or is no UTF-8.
pub(super) fn read(path: &Path, layout: Layout, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
    let location = Location::new(path, 1);
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut row = Map::new();
    row.insert("file_name".into(), name.into());
    match layout {
        Layout::Captions => {
            let beside = path.with_extension("txt");
            if beside.is_file() {
                row.insert("text".into(), caption(&beside)?.into());
            }
        }
        Layout::Classes => {
            let class = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            row.insert("label".into(), class.unwrap_or_default().into());
        }
    }
    let _ = receiver(Ok(Row::new(location, row, bytes)));
    Ok(())
}

/// The text of a caption, without its last line feed.
fn caption(path: &Path) -> Result<String, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > LONGEST {
        let why = format!("a caption of {size} bytes; at most {LONGEST} are read");
        return Err(DataError::Source { path: path.display().to_string(), why });
    }
    let mut text =
        String::from_utf8(std::fs::read(path).map_err(unreadable)?).map_err(|problem| DataError::Source {
            path: path.display().to_string(),
            why: format!("a caption must be UTF-8, and byte {} is none", problem.utf8_error().valid_up_to()),
        })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
