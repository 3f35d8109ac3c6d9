//! Columns under other names: `columns = { prompt = "question", completion = "answer" }`, ours = theirs. A dot leads into
//! an object: `completion = "answer.text"`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Row;
use crate::error::DataError;

/// Names that formats know, and whether rows may do without.
const KNOWN: [(&str, Presence); 18] = [
    ("messages", Presence::Always),
    ("conversations", Presence::Always),
    ("prompt", Presence::Always),
    ("completion", Presence::Always),
    ("text", Presence::Always),
    ("instruction", Presence::Always),
    ("output", Presence::Always),
    ("chosen", Presence::Always),
    ("rejected", Presence::Always),
    ("label", Presence::Always),
    ("input_ids", Presence::Always),
    ("tensors", Presence::Always),
    ("input", Presence::Sometimes),
    ("history", Presence::Sometimes),
    ("labels", Presence::Sometimes),
    ("system", Presence::Sometimes),
    ("tools", Presence::Sometimes),
    ("weight", Presence::Sometimes),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Always,
    Sometimes,
}

/// Our names of columns, and theirs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Columns(BTreeMap<String, String>);

impl Columns {
    /// Every column under its own name.
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether no column has another name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What rows take from a column of a file.
    pub(super) fn used(&self, column: &str) -> Use<'_> {
        let known = KNOWN.iter().any(|(name, _)| *name == column) && !self.0.contains_key(column);
        if known || self.0.values().any(|theirs| theirs == column) {
            return Use::Whole;
        }
        let parts: Vec<&str> = self.0.values().filter_map(|theirs| part(theirs, column)).collect();
        if parts.is_empty() { Use::Nothing } else { Use::Parts(parts) }
    }

    /// Whether our names are names of something.
    ///
    /// # Errors
    /// The first that is not, with the nearest that is.
    pub fn check(&self) -> Result<(), DataError> {
        let known = || KNOWN.iter().map(|(name, _)| *name);
        match self.0.keys().find(|ours| !known().any(|name| name == ours.as_str())) {
            None => Ok(()),
            Some(ours) => Err(DataError::Config(format!(
                "columns: no format has a column `{ours}`{}; `columns` is written ours = \"theirs\", and ours are {}",
                nearest(ours, known()),
                known().collect::<Vec<_>>().join(", ")
            ))),
        }
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Columns {
    fn from(names: [(&str, &str); N]) -> Self {
        Self(names.map(|(ours, theirs)| (ours.to_string(), theirs.to_string())).into())
    }
}

/// What of a column rows are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Use<'a> {
    Nothing,
    /// What these paths lead to.
    Parts(Vec<&'a str>),
    Whole,
}

impl Use<'_> {
    /// The same of a field.
    pub fn field(&self, name: &str) -> Self {
        let Self::Parts(paths) = self else { return self.clone() };
        if paths.contains(&name) {
            return Self::Whole;
        }
        let parts: Vec<&str> = paths.iter().filter_map(|path| part(path, name)).collect();
        if parts.is_empty() { Self::Nothing } else { Self::Parts(parts) }
    }
}

/// The rest of a path that leads through `name`.
fn part<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    path.strip_prefix(name)?.strip_prefix('.')
}

/// The end of a sentence that says which name was probably meant.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map_or_else(String::new, |(_, known)| format!(" (`{known}` is there)"))
}

/// The renaming of one source's columns, over all of its files.
pub struct Names<'a> {
    columns: &'a Columns,
    rows: usize,
    seen: BTreeSet<&'a str>,
    /// Whether somebody had enough before all rows were read.
    stopped: bool,
}

impl<'a> Names<'a> {
    /// For a source of which nothing is read yet.
    pub fn new(columns: &'a Columns) -> Self {
        Self { columns, rows: 0, seen: BTreeSet::new(), stopped: false }
    }

    /// Not all rows are read.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Gives a row's columns our names.
    pub(super) fn apply(&mut self, row: &mut Row) -> Result<(), DataError> {
        if self.columns.is_empty() {
            return Ok(());
        }
        self.rows += 1;
        let mut values = Vec::new();
        let mut missing = None;
        for (ours, theirs) in &self.columns.0 {
            match find(&row.object, theirs) {
                Some(value) => {
                    self.seen.insert(ours.as_str());
                    values.push((ours.clone(), value.into_owned()));
                }
                None if KNOWN.contains(&(ours.as_str(), Presence::Sometimes)) => {}
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
        for theirs in self.columns.0.values() {
            row.object.shift_remove(theirs);
        }
        row.object.extend(values);
        Ok(())
    }

    /// What must hold when the last file of a source is read: a column that rows may do without is in one of them. Of a
    /// source that was not read to its end nothing is known.
    ///
    /// # Errors
    /// The column that no row has; `path` is the source as the recipe names it.
    pub fn finish(self, path: &str) -> Result<(), DataError> {
        let asked = self.rows > 0 && !self.stopped;
        let absent = self.columns.0.iter().find(|(ours, _)| asked && !self.seen.contains(ours.as_str()));
        match absent {
            // One that rows must have was missed in each of them, and they said so.
            Some((ours, theirs)) if KNOWN.contains(&(ours.as_str(), Presence::Sometimes)) => Err(DataError::Source {
                path: path.to_string(),
                why: format!("no row has the column `{theirs}` (for `{ours}`)"),
            }),
            _ => Ok(()),
        }
    }
}

/// A column by its name, else by a path of names.
fn find<'v>(object: &'v Map<String, Value>, name: &str) -> Option<Cow<'v, Value>> {
    if let Some(value) = object.get(name) {
        return Some(Cow::Borrowed(value));
    }
    let (first, rest) = name.split_once('.')?;
    match object.get(first)? {
        Value::Object(inner) => find(inner, rest),
        // A struct that is null, of a table: its fields are too.
        Value::Null => Some(Cow::Owned(Value::Null)),
        _ => None,
    }
}
