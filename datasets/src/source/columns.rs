//! Renamed columns: [`Columns`] is `columns = { prompt = "question", completion = "answer" }`, with the names of
//! formats on the left and those of the file on the right. A dot leads into an object: `completion = "answer.text"`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Column names that formats know, and whether every row must have them once they are renamed.
const KNOWN: [(&str, Presence); 24] = [
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
    ("prompt_ids", Presence::Always),
    ("chosen_ids", Presence::Always),
    ("rejected_ids", Presence::Always),
    ("completion_ids", Presence::Always),
    ("tensors", Presence::Always),
    ("image", Presence::Sometimes),
    ("file_name", Presence::Sometimes),
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

/// What a column of images, sound or video is called, alone or before a word of [`FORMS`].
const MEDIA: [&str; 12] =
    ["image", "images", "img", "imgs", "picture", "pictures", "audio", "audios", "video", "videos", "photo", "photos"];
/// In which form a column holds media.
const FORMS: [&str; 9] = ["url", "urls", "path", "paths", "file", "files", "bytes", "base64", "data"];

/// Whether a column of that name holds images, sound or video.
pub(crate) fn is_media(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let (kind, form) = name.split_once(['_', '-', '.']).unwrap_or((&name, "data"));
    MEDIA.contains(&kind) && FORMS.contains(&form)
}

/// Whether formats know a column of that name.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == name)
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

    /// These, and columns of the file that are read although no name of ours stands for them.
    pub(crate) fn and_used<'c>(&self, theirs: impl Iterator<Item = &'c str>) -> Self {
        let mut columns = self.clone();
        // No format has a column of such a name.
        columns.0.extend(theirs.map(|theirs| (format!("\0{theirs}"), theirs.to_string())));
        columns
    }

    /// The file's name of a column that is given our name `ours`.
    pub(crate) fn renamed(&self, ours: &str) -> Option<&str> {
        self.0.get(ours).map(String::as_str)
    }

    /// Pairs of our name and the file's name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(ours, theirs)| (ours.as_str(), theirs.as_str()))
    }

    /// Whether no column is renamed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the column, or a part of it, is given one of our names.
    pub(crate) fn renames(&self, column: &str) -> bool {
        self.0.values().any(|theirs| theirs == column || part(theirs, column).is_some())
    }

    /// The name that the file has for a column that we call `ours`.
    pub(crate) fn theirs<'n>(&'n self, ours: &'n str) -> &'n str {
        self.0.get(ours).map_or(ours, String::as_str)
    }

    /// The parts of a file's column that rows use.
    pub(super) fn used(&self, column: &str) -> Use<'_> {
        let known = KNOWN.iter().any(|(name, _)| *name == column) && !self.0.contains_key(column);
        let media = is_media(column) || self.0.iter().any(|(ours, theirs)| theirs == column && is_media(ours));
        if !media && (known || self.0.values().any(|theirs| theirs == column)) {
            return Use::Whole;
        }
        let parts: Vec<&str> = self.0.values().filter_map(|theirs| part(theirs, column)).collect();
        match parts.is_empty() {
            false => Use::Parts(parts),
            true if media => Use::Media,
            true => Use::Nothing,
        }
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
    /// Whether the value is there, and whether it is the same as another: a hash where JSON cannot hold it.
    Media,
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
