//! How the rows of a JSON file stand in it: [`Shape`] is seen in its first lines, because neither `.jsonl` nor `.json` is
//! always what it says.

use std::path::Path;

use serde::de::IgnoredAny;

use super::input::{Input, LONGEST, without_mark};
use super::object;
use super::reader::Reading;
use crate::error::DataError;

/// How rows stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Each on lines of its own, of which another may be broken.
    Lines,
    /// In one list or object, or as objects over several lines.
    Document,
}

/// The shape of a file. `lines` says which it is where its beginning may be either: a first line that is a whole object.
pub(super) fn of(path: &Path, reading: &Reading<'_>, lines: bool) -> Result<Shape, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let mut input = Input::open(path, reading.encoding)?;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    next(&mut input, &mut first).map_err(unreadable)?;
    next(&mut input, &mut second).map_err(unreadable)?;
    let usual = if lines { Shape::Lines } else { Shape::Document };
    let (first, second) = (without_mark(&first).trim_ascii(), second.trim_ascii());
    Ok(match (first.first(), second.first()) {
        // The lines of a list: of rows that are lists, each is broken.
        (Some(b'['), Some(_)) if is_whole(first) => usual,
        (Some(b'['), _) => Shape::Document,
        (Some(b'{'), Some(b'{')) if object::are_objects(first) => Shape::Lines,
        // An object over several lines; before another object it is a broken row.
        (Some(b'{'), Some(next)) if first == b"{" || *next != b'{' && is_cut(first) => Shape::Document,
        _ => usual,
    })
}

/// Reads the next line that is not blank.
fn next(input: &mut Input, line: &mut Vec<u8>) -> std::io::Result<()> {
    while input.line(line)? > 0 {
        if !without_mark(line).trim_ascii().is_empty() {
            return Ok(());
        }
    }
    line.clear();
    Ok(())
}

/// Whether a line is a whole value.
fn is_whole(line: &[u8]) -> bool {
    line.len() <= LONGEST && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

/// Whether a value begins on a line and does not end there.
fn is_cut(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_err_and(|problem| problem.is_eof())
}
