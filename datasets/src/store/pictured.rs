//! The bytes of an example with a picture: [`encode`] writes the encoded picture, or the path of its file relative to the
//! folder of the row's own file, and what belongs to it.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::bytes::{Cursor, put};
use super::labels;
use crate::medium::{Medium, Place};
use crate::pictured::{Caption, Pictured};

/// Bytes of the checksum of the other bytes.
const CHECK: usize = 8;
/// Where the encoded picture is.
const FILE: u8 = 0;
const ROW: u8 = 1;

/// The bytes of an example whose row stands in a file of `folder`.
pub(super) fn encode(example: &Pictured, folder: &Path) -> Vec<u8> {
    let Pictured { image, size, pixels, caption, label } = example;
    let mut bytes = Vec::new();
    put(&mut bytes, image.size);
    text(&mut bytes, &image.sha256);
    match &image.place {
        Place::File(path) => {
            bytes.push(FILE);
            text(&mut bytes, &path.strip_prefix(folder).unwrap_or(path).to_string_lossy());
        }
        Place::Row { bytes: encoded, name } => {
            bytes.push(ROW);
            text(&mut bytes, name);
            put(&mut bytes, encoded.len() as u64);
            bytes.extend(&**encoded);
        }
    }
    put(&mut bytes, size.0.into());
    put(&mut bytes, size.1.into());
    bytes.extend(pixels);
    bytes.push(u8::from(caption.is_some()));
    if let Some(Caption { text: said, ids }) = caption {
        text(&mut bytes, said);
        put(&mut bytes, ids.len() as u64);
        for ids in ids {
            put(&mut bytes, ids.len() as u64);
            ids.iter().for_each(|id| put(&mut bytes, (*id).into()));
        }
    }
    bytes.push(u8::from(label.is_some()));
    if let Some(label) = label {
        labels::encode(&mut bytes, label);
    }
    let check = Sha256::digest(&bytes);
    bytes.extend(&check[..CHECK]);
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    put(bytes, text.len() as u64);
    bytes.extend(text.as_bytes());
}

/// The example in these bytes; `None` when they hold none.
pub(super) fn decode(bytes: &[u8], folder: &Path) -> Option<Pictured> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK)?)?;
    if Sha256::digest(body)[..CHECK] != *check {
        return None;
    }
    let mut cursor = Cursor(body);
    let (size, sha256) = (cursor.number()?, read_text(&mut cursor)?);
    let place = match cursor.byte()? {
        FILE => Place::File(folder.join(read_text(&mut cursor)?)),
        ROW => {
            let name = read_text(&mut cursor)?;
            let length = cursor.count(cursor.0.len())?;
            Place::Row { bytes: cursor.take(length)?.into(), name }
        }
        _ => return None,
    };
    let side = |cursor: &mut Cursor<'_>| u32::try_from(cursor.number()?).ok();
    let sides = (side(&mut cursor)?, side(&mut cursor)?);
    let pixels = cursor.array()?;
    let caption = match cursor.byte()? {
        0 => None,
        _ => {
            let said = read_text(&mut cursor)?;
            let count = cursor.count(cursor.0.len())?;
            let ids = |cursor: &mut Cursor<'_>| {
                let count = cursor.count(cursor.0.len())?;
                (0..count).map(|_| u32::try_from(cursor.number()?).ok()).collect::<Option<Vec<u32>>>()
            };
            Some(Caption { text: said, ids: (0..count).map(|_| ids(&mut cursor)).collect::<Option<_>>()? })
        }
    };
    let label = match cursor.byte()? {
        0 => None,
        _ => Some(labels::decode(&mut cursor)?),
    };
    let image = Medium { place, sha256, size };
    cursor.0.is_empty().then_some(Pictured { image, size: sides, pixels, caption, label })
}

fn read_text(cursor: &mut Cursor<'_>) -> Option<String> {
    let length = cursor.count(cursor.0.len())?;
    String::from_utf8(cursor.take(length)?.to_vec()).ok()
}
