//! What is asked of a preparation, and what it says of itself.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{DataConfig, SourceConfig, Split};
use crate::error::DataError;
use crate::reference::Reach;
use crate::source::Fetch;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// What is to be prepared, and with what.
#[derive(Clone, Copy)]
pub struct Prepare<'a> {
    /// The recipe's section.
    pub config: &'a DataConfig,
    /// Which half of it.
    pub split: Split,
    /// The folder that relative paths start from.
    pub base: &'a Path,
    /// The model's tokenizer; only rows of `tokens` and of `tensors` do without.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The chat template; only rows with messages need it.
    pub template: Option<&'a ChatTemplate>,
    /// Brings the files of `hf://` sources here.
    pub fetch: &'a dyn Fetch,
    /// Rows that are laid out side by side, for grouping by length and for what is said of padding.
    pub micro_batch: usize,
    /// The folder of the cache; absent = rows go to a temporary file.
    pub cache: Option<&'a Path>,
    /// Keep rendered texts and roles in the examples, for showing them; such rows are not cached.
    pub keep_text: bool,
    /// Stop after so many rows; such rows are not cached.
    pub limit: Option<usize>,
    /// Called now and then, from the calling thread; may end the preparation.
    pub progress: &'a dyn Fn(Progress) -> ControlFlow<()>,
}

impl Prepare<'_> {
    /// The split whose sources are read.
    pub(crate) fn rows_of(&self) -> Split {
        match self.config.validation_split {
            Some(_) => Split::Train,
            None => self.split,
        }
    }

    /// Which files rows may name.
    pub(super) fn reach(&self) -> Reach {
        if self.config.allow_outside { Reach::Anywhere } else { Reach::Below }
    }

    /// Tells how far the preparation has come.
    pub(super) fn report(&self, progress: Progress) -> Result<(), DataError> {
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(DataError::Interrupted),
        }
    }
}

/// How far a preparation has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows encoded.
    pub rows: usize,
    /// Tokens they have.
    pub tokens: usize,
    /// Bytes of the files read.
    pub bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

/// A file that rows came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// Where it was found.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub sha256: String,
}

/// A source with its files.
pub(super) struct Work<'a> {
    pub source: &'a SourceConfig,
    pub files: Vec<PathBuf>,
}
