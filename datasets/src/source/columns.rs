//! Renamed columns: [`Columns`] is `columns = { prompt = "question", completion = "answer" }`, with the names of
//! formats on the left and those of the file on the right. A dot leads into an object: `completion = "answer.text"`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Column names that formats know, and whether every row must have them once they are renamed.
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

impl FromIterator<(String, String)> for Columns {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl Columns {
    /// No renamed column.
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// Pairs of our name and the file's name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(ours, theirs)| (ours.as_str(), theirs.as_str()))
    }

    /// Whether no column is renamed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts of a file's column that rows use.
    pub(super) fn used(&self, column: &str) -> Use<'_> {
        let known = KNOWN.iter().any(|(name, _)| *name == column) && !self.0.contains_key(column);
        if known || self.0.values().any(|theirs| theirs == column) {
            return Use::Whole;
        }
        let parts: Vec<&str> = self.0.values().filter_map(|theirs| part(theirs, column)).collect();
        if parts.is_empty() { Use::Nothing } else { Use::Parts(parts) }
    }

    /// Checks that all of our names are columns that formats know.
    ///
    /// # Errors
    /// The first name that is not known, with the nearest known name.
    pub fn check(&self) -> Result<(), String> {
        let known = || KNOWN.iter().map(|(name, _)| *name);
        match self.0.keys().find(|ours| !known().any(|name| name == ours.as_str())) {
            None => Ok(()),
            Some(ours) => Err(format!(
                "columns: no format has a column `{ours}`{}; `columns` is written ours = \"theirs\", and ours are {}",
                nearest(ours, known()),
                known().collect::<Vec<_>>().join(", ")
            )),
        }
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Columns {
    fn from(names: [(&str, &str); N]) -> Self {
        Self(names.map(|(ours, theirs)| (ours.to_string(), theirs.to_string())).into())
    }
}

/// Whether rows may lack the column that we call `ours`.
pub(super) fn is_optional(ours: &str) -> bool {
    KNOWN.contains(&(ours, Presence::Sometimes))
}

/// The parts of a column that rows use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Use<'a> {
    Nothing,
    /// The values at these paths.
    Parts(Vec<&'a str>),
    Whole,
}

impl Use<'_> {
    /// The parts of the field `name` that rows use.
    pub fn field(&self, name: &str) -> Self {
        let Self::Parts(paths) = self else { return self.clone() };
        if paths.contains(&name) {
            return Self::Whole;
        }
        let parts: Vec<&str> = paths.iter().filter_map(|path| part(path, name)).collect();
        if parts.is_empty() { Self::Nothing } else { Self::Parts(parts) }
    }
}

/// The rest of `path` after `name`, if the path leads through it.
fn part<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    path.strip_prefix(name)?.strip_prefix('.')
}

/// The end of a message, naming the known name nearest to `name`.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    known
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map_or_else(String::new, |(_, known)| format!(" (`{known}` is there)"))
}
