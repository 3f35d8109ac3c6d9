//! Renaming of columns: [`Names`] renames those of each row, and checks what must hold of all rows of a source.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::columns::{Columns, is_known, is_optional, nearest};
use super::row::Row;
use crate::error::DataError;

/// The renaming of one source's columns, over all of its files.
pub struct Names<'a> {
    columns: &'a Columns,
    rows: usize,
    seen: BTreeSet<&'a str>,
    /// Whether reading stopped before the end of the source.
    stopped: bool,
}

impl<'a> Names<'a> {
    /// The renaming of a source of which nothing has been read.
    pub fn new(columns: &'a Columns) -> Self {
        Self { columns, rows: 0, seen: BTreeSet::new(), stopped: false }
    }

    /// Notes that not all rows are read.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// A row under our names, without the columns that are null.
    ///
    /// # Errors
    /// A column that the recipe names and the row lacks.
    pub(crate) fn rename(&mut self, mut row: Row) -> Result<Row, DataError> {
        self.apply(&mut row)?;
        let Row { object, empty, .. } = &mut row;
        object.retain(|name, value| {
            if value.is_null() && is_known(name) {
                empty.push((name.clone(), self.columns.theirs(name).to_string()));
            }
            !value.is_null()
        });
        Ok(row)
    }

    /// Renames a row's columns to our names.
    fn apply(&mut self, row: &mut Row) -> Result<(), DataError> {
        if self.columns.is_empty() {
            return Ok(());
        }
        self.rows += 1;
        let mut values = Vec::new();
        let mut missing = None;
        for (ours, theirs) in self.columns.iter() {
            match find(&row.object, theirs) {
                Some(value) => {
                    self.seen.insert(ours);
                    values.push((ours.to_string(), value.into_owned()));
                }
                None if is_optional(ours) => {}
                None => missing = missing.or(Some((ours, theirs))),
            }
        }
        if let Some((ours, theirs)) = missing {
            let names: Vec<_> = row.object.keys().map(String::as_str).collect();
            let expected = format!("the column `{theirs}` (for `{ours}`)");
            let found = match names.is_empty() {
                true => "no column at all".to_string(),
                false => {
                    let near = nearest(theirs, names.iter().copied());
                    format!("the columns {}{near}", names.join(", "))
                }
            };
            return Err(DataError::row(&row.location, expected, found));
        }
        for (_, theirs) in self.columns.iter() {
            row.object.shift_remove(theirs);
        }
        row.object.extend(values);
        Ok(())
    }

    /// Checks a source after its last file: a renamed column that rows may lack must be in at least one row. A source
    /// that was not read to its end is not checked.
    ///
    /// # Errors
    /// A column that no row has; `path` is the source as the recipe names it.
    pub fn finish(self, path: &str) -> Result<(), DataError> {
        let asked = self.rows > 0 && !self.stopped;
        let absent = self.columns.iter().find(|(ours, _)| asked && !self.seen.contains(ours));
        match absent {
            // A column that every row must have is no case for this: rows without it were errors already.
            Some((ours, theirs)) if is_optional(ours) => Err(DataError::Source {
                path: path.to_string(),
                why: format!("no row has the column `{theirs}` (for `{ours}`)"),
            }),
            _ => Ok(()),
        }
    }
}

/// The value of a column by its name, or else by a path of names.
pub(crate) fn find<'v>(object: &'v Map<String, Value>, name: &str) -> Option<Cow<'v, Value>> {
    if let Some(value) = object.get(name) {
        return Some(Cow::Borrowed(value));
    }
    let (first, rest) = name.split_once('.')?;
    match object.get(first)? {
        Value::Object(inner) => find(inner, rest),
        // In a table, the fields of a null struct are null too.
        Value::Null => Some(Cow::Owned(Value::Null)),
        _ => None,
    }
}
