//! The bytes of a row's label: [`encode`] and [`decode`]. Numbers are written in full, because a value must come back as it
//! was.

use super::bytes::{Cursor, put};
use crate::label::{Class, Label, RowLabel};

/// What a label is.
const ABSENT: u8 = 0;
const ONE: u8 = 1;
const SEVERAL: u8 = 2;
/// What a class is.
const NAME: u8 = 0;
const NUMBER: u8 = 1;

/// Appends the bytes of a label.
pub(super) fn encode(bytes: &mut Vec<u8>, row: &RowLabel) {
    bytes.extend(row.weight.to_le_bytes());
    match &row.label {
        None => bytes.push(ABSENT),
        Some(Label::One(one)) => {
            bytes.push(ONE);
            class(bytes, one);
        }
        Some(Label::Several(several)) => {
            bytes.push(SEVERAL);
            put(bytes, several.len() as u64);
            several.iter().for_each(|one| class(bytes, one));
        }
    }
}

fn class(bytes: &mut Vec<u8>, class: &Class) {
    match class {
        Class::Name(name) => {
            bytes.push(NAME);
            put(bytes, name.len() as u64);
            bytes.extend(name.as_bytes());
        }
        Class::Number(number) => {
            bytes.push(NUMBER);
            bytes.extend(number.to_le_bytes());
        }
    }
}

/// Reads a label; `None` where the bytes hold none.
pub(super) fn decode(cursor: &mut Cursor<'_>) -> Option<RowLabel> {
    let weight = cursor.array().map(f32::from_le_bytes)?;
    let label = match cursor.byte()? {
        ABSENT => None,
        ONE => Some(Label::One(read_class(cursor)?)),
        SEVERAL => {
            // Each class takes two bytes or more.
            let count = cursor.count(cursor.0.len())?;
            Some(Label::Several((0..count).map(|_| read_class(cursor)).collect::<Option<_>>()?))
        }
        _ => return None,
    };
    Some(RowLabel { label, weight })
}

fn read_class(cursor: &mut Cursor<'_>) -> Option<Class> {
    match cursor.byte()? {
        NAME => {
            let length = cursor.count(cursor.0.len())?;
            Some(Class::Name(String::from_utf8(cursor.take(length)?.to_vec()).ok()?))
        }
        NUMBER => cursor.array().map(|bytes| Class::Number(f64::from_le_bytes(bytes))),
        _ => None,
    }
}
