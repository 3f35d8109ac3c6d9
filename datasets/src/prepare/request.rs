//! The request for a preparation, [`Prepare`], and the progress that it reports.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::config::{DataConfig, SourceConfig, Split};
use crate::error::DataError;
use crate::pictured::Pictures;
use crate::query::Query;
use crate::reference::Reach;
use crate::source::{Fetch, Layout, Reading};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// What to prepare, and with what.
#[derive(Clone, Copy)]
pub struct Prepare<'a> {
    /// The recipe's `[data]` section.
    pub config: &'a DataConfig,
    /// The split to prepare.
    pub split: Split,
    /// The folder that relative paths start from.
    pub base: &'a Path,
    /// The model's tokenizer. Only `tokens` and `tensors` rows do without.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The chat template. Only rows with messages need it.
    pub template: Option<&'a ChatTemplate>,
    /// How the model reads pictures. Only rows with pictures need it.
    pub pictures: Option<&'a Arc<Pictures>>,
    /// Downloads the files of `hf://` sources.
    pub fetch: &'a dyn Fetch,
    /// Number of packs in a micro-batch, for grouping by length and for the reported share of padding.
    pub micro_batch: usize,
    /// The folder of the cache; absent = rows go to a temporary file.
    pub cache: Option<&'a Path>,
    /// Keep rendered texts and roles in the examples, to show them; such rows are not cached.
    pub keep_text: bool,
    /// Stop after this many rows; such rows are not cached.
    pub limit: Option<usize>,
    /// Called now and then from the calling thread; `Break` ends the preparation.
    pub progress: &'a dyn Fn(Progress) -> ControlFlow<()>,
}

impl Prepare<'_> {
    /// The split whose sources are read: with `validation_split`, both splits read the training sources.
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

    /// Reports the progress; an error when the caller ends the preparation.
    pub(super) fn report(&self, progress: Progress) -> Result<(), DataError> {
        match (self.progress)(progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(DataError::Interrupted),
        }
    }
}

/// The progress of a preparation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of rows encoded.
    pub rows: usize,
    /// Number of tokens of these rows.
    pub tokens: usize,
    /// Number of bytes of the files read.
    pub bytes: u64,
    /// Number of bytes of all files.
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
    /// Which rows of it are kept; absent: all.
    pub query: Option<Query>,
    pub files: Vec<PathBuf>,
    /// Which files were chosen and which were not, for users.
    pub note: Option<String>,
    /// What pictures have beside them, for models that read pictures.
    pub pictures: Option<Layout>,
}

impl Work<'_> {
    /// How its files are read.
    pub fn reading(&self) -> Reading<'_> {
        Reading { pictures: self.pictures, ..Reading::from(self.source) }
    }
}
