//! The types of a table's columns, looked at before polars' reader does, which panics where it has no answer.

use std::collections::BTreeSet;

use polars_arrow::io::ipc::format::ipc::planus::ReadAsRoot;
use polars_arrow::io::ipc::format::ipc::{FieldRef, IntervalUnit, MessageHeaderRef, MessageRef, TypeRef};

use crate::source::columns::{Columns, Use};

type Problem = Box<dyn std::error::Error>;

/// How deep types may be nested.
const DEEPEST: usize = 64;

/// A type that is not read.
struct Unread {
    name: &'static str,
    /// Whether a reader can pass over it.
    passable: bool,
}

/// The numbers of the columns to read: all but those of a type that cannot be read, where no row is made from them.
///
/// # Errors
/// A column that must be read, or that the reader cannot pass over, of such a type; a name that two columns have.
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
            Some(Unread { passable: true, .. }) if names.used(name) == Use::Nothing => {}
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

/// What of a column's type is not read.
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
    // What a dictionary stands for is read before anybody asks for the column.
    let is_dictionary = field.dictionary()?.is_some();
    Ok(found.map(|found| Unread { passable: found.passable && !is_dictionary, ..found }))
}
