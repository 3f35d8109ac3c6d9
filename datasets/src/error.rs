//! The error type of this crate: [`DataError`] says what was wrong, where, what was expected, and what to do.

use std::path::{Path, PathBuf};

use crate::gate::Report;
use crate::location::Location;

/// Everything that can go wrong between a data file and a batch.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The caller ended the preparation.
    #[error("the preparation of the rows was ended")]
    Interrupted,
    /// A file or folder that cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A path, folder or glob that names no data file.
    #[error("{path}: {why}")]
    Source {
        /// As written in the recipe.
        path: String,
        /// Why nothing can be read from it, and what would work.
        why: String,
    },
    /// A `where` or `sql` of a source that cannot be answered.
    #[error("{path}: {key} = {sql:?}: {why}")]
    Query {
        /// The source, as written in the recipe.
        path: String,
        /// The key: `where` or `sql`.
        key: &'static str,
        /// What stands there.
        sql: String,
        /// What is wrong with it, and what to write.
        why: String,
    },
    /// A table file (Parquet, Arrow, CSV) that its reader refused.
    #[error("{path}: {why}")]
    Table {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        why: String,
    },
    /// A file of prepared rows that cannot be written.
    #[error(
        "{path}: prepared rows cannot be written: {source}; FIREBRAND_CACHE names another folder, and with data.cache = \
         \"off\" they go to the system's temporary folder (TMPDIR)"
    )]
    Write {
        /// The file or its folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of prepared rows that is not as it was written.
    #[error(
        "{path}: these prepared rows are damaged: {why}; `firebrand cache clear` removes them, and they are made again"
    )]
    Store {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A row that is not what its format asks for.
    #[error("{location}: expected {expected}, found {found}")]
    Row {
        /// File and line.
        location: Location,
        /// What the format asks for.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A file of tensors that is not what its row needs.
    #[error("{location}: {path}: {why}")]
    Tensors {
        /// File and line of the row that names it.
        location: Location,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A picture or a sound of a row that cannot be read.
    #[error("{location}: {name} {why}")]
    Medium {
        /// File and line of the row that has it.
        location: Location,
        /// Its path, or what the row calls it.
        name: String,
        /// What is wrong with it, as a phrase.
        why: String,
    },
    /// A file that says how pictures become numbers, and says something that is not known here.
    #[error("{path}: {why}")]
    Processor {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Broken rows: the first of each kind, with file and line, what was expected and what was found.
    #[error("{count} broken row(s), the first of each kind:\n{}\nmend them, or leave them out with data.broken = \"skip\"", first.join("\n"))]
    Rows {
        /// How many rows are broken.
        count: usize,
        /// The first messages.
        first: Vec<String>,
    },
    /// The format could not be decided.
    #[error("{path}: {why}")]
    Format {
        /// The file the rows came from.
        path: PathBuf,
        /// What fits, what does not, and what to write into the recipe.
        why: String,
    },
    /// A row that its chat template could not render.
    #[error("{location}: message {message}: {why}")]
    Render {
        /// File and line.
        location: Location,
        /// One-based position of the message in its row.
        message: usize,
        /// What the template said.
        why: String,
    },
    /// A chat template that is missing, does not compile, or does not run.
    #[error("chat template {name}: {why}")]
    Template {
        /// Where the template comes from.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A tokenizer that cannot be loaded or used.
    #[error("{path}: {why}")]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A row longer than `max_length` where truncation is refused.
    #[error(
        "{location}: {tokens} tokens, more than max_length = {max_length}; raise it or choose another `truncation`"
    )]
    TooLong {
        /// File and line.
        location: Location,
        /// Length of the row.
        tokens: usize,
        /// The limit.
        max_length: usize,
    },
    /// A setting with a value that is not allowed.
    #[error("data: {0}")]
    Config(String),
    /// Rows of text, and a model folder without a tokenizer.
    #[error("data: rows with text need a tokenizer; only rows of `tokens` and of `tensors` do without{}", within(looked_in.as_deref()))]
    NoTokenizer {
        /// The folder that has none, where it is known.
        looked_in: Option<PathBuf>,
    },
    /// The data gate refuses the data.
    #[error("the data gate found errors:\n{0}")]
    Gate(Box<Report>),
}

impl DataError {
    /// A [`DataError::Row`] at `location`.
    pub(crate) fn row(location: &Location, expected: impl Into<String>, found: impl Into<String>) -> Self {
        DataError::Row { location: location.clone(), expected: expected.into(), found: found.into() }
    }

    /// The location of the row, where the error concerns one row only.
    pub(crate) fn location(&self) -> Option<&Location> {
        match self {
            DataError::Row { location, .. }
            | DataError::Render { location, .. }
            | DataError::Tensors { location, .. }
            | DataError::Medium { location, .. }
            | DataError::TooLong { location, .. } => Some(location),
            _ => None,
        }
    }

    /// Whether only one row is concerned, so that reading can go on and collect further errors.
    pub(crate) fn is_about_one_row(&self) -> bool {
        self.location().is_some()
    }
}

fn within(folder: Option<&Path>) -> String {
    folder.map_or_else(String::new, |folder| {
        let folder = folder.display();
        format!("\n  {folder} has none: looked for tokenizer.json, vocab.json with merges.txt, and tokenizer.model")
    })
}
