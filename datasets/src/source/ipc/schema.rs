//! The schema of an Arrow IPC file: [`columns`] checks the types of columns before polars' reader sees them, because
//! that reader panics on types that it does not know.

use std::collections::BTreeSet;

use polars_arrow::io::ipc::format::ipc::planus::ReadAsRoot;
use polars_arrow::io::ipc::format::ipc::{FieldRef, IntervalUnit, MessageHeaderRef, MessageRef, TypeRef};

use crate::source::columns::{Columns, Use};

type Problem = Box<dyn std::error::Error>;

/// Depth to which types may be nested.
const DEEPEST: usize = 64;

/// A type that cannot be read.
struct Unread {
    name: &'static str,
    /// Whether the reader can skip a column of it.
    passable: bool,
}

/// The indices of the columns to read: all but those of a type that cannot be read, if no row uses them.
///
/// # Errors
/// A column of such a type that a row uses or that the reader cannot skip; two columns of the same name.
pub(super) fn columns(message: &[u8], names: &Columns) -> Result<Vec<usize>, Problem> {
    let Some(MessageHeaderRef::Schema(schema)) = MessageRef::read_as_root(message)?.header()? else {
        return Err("no Arrow IPC file or stream: it does not begin with a schema".into());
    };
    let mut seen = BTreeSet::new();
    let mut read = Vec::new();
    for (index, field) in schema.fields()?.into_iter().flatten().enumerate() {
        let field = field?;
        let name = field.name()?.unwrap_or_default();
        if !seen.insert(name) {
            return Err(format!("two columns have the name `{name}`").into());
        }
        match unread(field, 0)? {
            None => read.push(index),
            Some(Unread { passable: true, .. }) if matches!(names.used(name), Use::Nothing | Use::Media) => {}
            Some(Unread { name: kind, .. }) => {
                let why = format!(
                    "the column `{name}` has the type {kind}, which cannot be read: write it as another, or leave it out"
                );
                return Err(why.into());
            }
        }
    }
    match (read.is_empty(), seen.is_empty()) {
        (true, false) => Err("none of its columns is of a type that can be read".into()),
        _ => Ok(read),
    }
}

/// The type in a column that cannot be read, if there is one.
fn unread(field: FieldRef<'_>, depth: usize) -> Result<Option<Unread>, Problem> {
    if depth >= DEEPEST {
        return Err(format!("a column has a type that is nested more than {DEEPEST} times").into());
    }
    let passable = |name| Some(Unread { name, passable: true });
    let mut found = match field.type_()? {
        Some(TypeRef::RunEndEncoded(_)) => Some(Unread { name: "run-end encoded", passable: false }),
        Some(TypeRef::ListView(_) | TypeRef::LargeListView(_)) => Some(Unread { name: "list view", passable: false }),
        Some(TypeRef::Decimal(decimal)) if decimal.scale()? < 0 => {
            Some(Unread { name: "decimal with a negative scale", passable: false })
        }
        Some(TypeRef::Decimal(decimal)) if decimal.bit_width()? == 256 => passable("decimal of 256 bits"),
        Some(TypeRef::Interval(interval)) if interval.unit()? == IntervalUnit::DayTime => {
            passable("interval of days and milliseconds")
        }
        _ => None,
    };
    for child in field.children()?.into_iter().flatten() {
        let inner = unread(child?, depth + 1)?;
        if found.as_ref().is_none_or(|found| found.passable) {
            found = inner.or(found);
        }
    }
    // The values of a dictionary are read even when nobody uses the column.
    let is_dictionary = field.dictionary()?.is_some();
    Ok(found.map(|found| Unread { passable: found.passable && !is_dictionary, ..found }))
}
