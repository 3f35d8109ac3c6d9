//! An encoded split: [`Dataset`] holds its rows in the order of the data and makes the packs of an epoch and the
//! batches of a step from them.
//!
//! The rows are in a store on disk. A few bytes per row stay in memory: lengths, and exceptions from the usual case.

mod epoch;
mod rows;

pub use epoch::Epoch;
pub(crate) use rows::Rows;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::array::{NamedArrays, NamedOutlines};
use crate::batch::Batch;
use crate::classes::Classes;
use crate::config::{DataConfig, Format, Split};
use crate::documents::DocumentAttention;
use crate::error::DataError;
use crate::example::{Example, ExampleContent};
use crate::format::{Decision, Unread};
use crate::hex::hex;
use crate::kind::RowKind;
use crate::location::Location;
use crate::order::{Amount, Portion};
use crate::pack::Pack;
use crate::pictured::Pictures;
use crate::prepare::FileInfo;
use crate::query::ChosenRows;
use crate::split;
use crate::store::{Entry, Store};
use epoch::{Layout, Memory};

/// An encoded split. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Which half of the data it is.
    pub split: Split,
    /// How many rows the queries of its sources kept; a source without a query is not there.
    pub chosen: Vec<ChosenRows>,
    /// The format of each source, and why it was chosen.
    pub decisions: Vec<Decision>,
    /// The files the rows came from, with their hashes; empty where only the first rows were asked for
    /// (`Prepare::limit`).
    pub files: Vec<FileInfo>,
    /// What users should know of the sources: which files were read, which of a folder were not, and why.
    pub notes: Vec<String>,
    /// Whether the rows are kept for the next start.
    pub kept: Kept,
    store: Arc<Store>,
    rows: Arc<Rows>,
    /// For each source, how much of it is visited, and its weight as it enters the hash.
    portions: Vec<(Portion, f64)>,
    layout: Layout,
    documents: DocumentAttention,
    validation: Option<f64>,
    /// For each source, the names of its columns for prompts and completions.
    prompt_columns: Vec<(String, String)>,
    memory: Arc<Mutex<Memory>>,
    /// How the model reads pictures, and what labels of rows with pictures are learned as.
    pictures: Option<Arc<Pictures>>,
    classes: Option<Arc<Classes>>,
}

/// Rows that could not be used and were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// How many.
    pub count: usize,
    /// The first of them, with what is wrong with each.
    pub first: Vec<(Location, String)>,
}

/// Whether prepared rows are kept for the next start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// They were found in the cache.
    Found,
    /// They were prepared and stored in the cache.
    Stored,
    /// They are not kept, for this reason.
    Not(String),
}

impl Dataset {
    pub(crate) fn new(store: Arc<Store>, config: &DataConfig, split: Split, micro_batch: usize) -> Self {
        let validation = config.validation_split;
        let sources = config.sources(if validation.is_some() { Split::Train } else { split });
        let rows = Rows::choose(&store, sources.len(), |share| {
            validation.is_none_or(|fraction| split::is_set_aside(share, fraction) == (split == Split::Eval))
        });
        let portions = sources.iter().zip(&rows.sources).map(|(source, &rows)| {
            let amount = source.rows.map_or(Amount::Times(source.weight), Amount::Rows);
            (Portion { rows, amount, epochs: source.epochs }, source.weight)
        });
        Self {
            split,
            chosen: Vec::new(),
            decisions: Vec::new(),
            files: Vec::new(),
            notes: Vec::new(),
            kept: Kept::Not(String::new()),
            portions: portions.collect(),
            layout: Layout::new(config, split, store.kind, micro_batch),
            documents: config.document_attention,
            validation,
            prompt_columns: sources
                .iter()
                .map(|source| {
                    (source.columns.theirs("prompt").to_owned(), source.columns.theirs("completion").to_owned())
                })
                .collect(),
            rows: Arc::new(rows),
            store,
            memory: Arc::default(),
            pictures: None,
            classes: None,
        }
    }

    /// What nothing reads of the rows, by source.
    pub(crate) fn unread(&self) -> impl Iterator<Item = &Unread> {
        self.store.meta.sources.iter().map(|source| &source.unread)
    }

    /// Number of rows left out because something in them is empty, and the first of them.
    pub(crate) fn left_empty(&self) -> (usize, Vec<Location>) {
        let empty = &self.store.meta.empty;
        (empty.count, empty.first.iter().map(|(file, line)| self.store.place(*file, *line)).collect())
    }

    /// What the examples are made of: tokens or arrays.
    pub fn kind(&self) -> RowKind {
        self.store.kind
    }

    /// Whether the example of an entry came from a row that has a label as a whole.
    pub(crate) fn is_labelled(&self, entry: &Entry) -> bool {
        self.store.meta.sources.get(entry.source_index as usize).is_some_and(|source| source.format == Format::Labelled)
    }

    /// The names of the columns that hold prompt and completion in the source of an example.
    pub(crate) fn prompt_columns(&self, example: usize) -> (&str, &str) {
        let source = self.store.entry(self.rows.in_store(example)).map_or(0, |entry| entry.source_index as usize);
        self.prompt_columns.get(source).map_or(("prompt", "completion"), |(prompt, completion)| (prompt, completion))
    }

    /// Number of examples: one per row, two where the row is a pair.
    pub fn len(&self) -> usize {
        self.rows.lengths.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.rows.lengths.is_empty()
    }

    /// The rows, each as the numbers of its examples: one, or two for a pair.
    pub fn rows(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.rows.len()).map(|row| self.rows.examples(row))
    }

    /// The example of this number, counted from 0 in the order of sources, files and lines.
    ///
    /// # Errors
    /// When its bytes on disk are not those that were written.
    pub fn example(&self, number: usize) -> Result<Example, DataError> {
        self.store.read(self.rows.in_store(number))
    }

    /// All examples, in order.
    pub fn examples(&self) -> impl Iterator<Item = Result<Example, DataError>> + '_ {
        (0..self.len()).map(|number| self.example(number))
    }

    /// Number of tokens of example `number`; 1 for a row of tensors.
    pub fn length(&self, number: usize) -> usize {
        self.rows.lengths[number] as usize
    }

    /// File and line of the row of example `number`.
    pub fn location(&self, number: usize) -> Location {
        self.store
            .entry(self.rows.in_store(number))
            .map_or_else(|| self.store.place(u32::MAX, 0), |entry| self.store.location(&entry))
    }

    /// Calls `look` with the number and index entry of every example, in order and in bounded memory. No example is
    /// read.
    pub fn entries(&self, mut look: impl FnMut(usize, &Entry)) {
        let mut next = 0;
        self.store.entries(|index, entry| {
            if next < self.len() && self.rows.in_store(next) == index {
                look(next, &entry);
                next += 1;
            }
        });
    }

    /// Rows left out because of their length, with that length in tokens.
    pub fn dropped(&self) -> Vec<(Location, usize)> {
        let is_ours = |share: u64| {
            let aside = |fraction| split::is_set_aside(share, fraction) == (self.split == Split::Eval);
            self.validation.is_none_or(aside)
        };
        let dropped = self.store.meta.dropped.iter().filter(|dropped| is_ours(dropped.share));
        dropped.map(|dropped| (self.store.place(dropped.file, dropped.line), dropped.tokens)).collect()
    }

    /// Rows left out because they could not be used. With `validation_split` all of them count for the training split.
    pub fn broken(&self) -> Broken {
        let broken = &self.store.meta.broken;
        if self.validation.is_some() && self.split == Split::Eval {
            return Broken::default();
        }
        let first = broken.first.iter().map(|(file, line, said)| (self.store.place(*file, *line), said.clone()));
        Broken { count: broken.count, first: first.collect() }
    }

    /// The rows that `validation_split` sets aside, as the evaluation split; absent without `validation_split`. What
    /// queries kept is said once, of the split that was read.
    pub fn set_aside(&self, config: &DataConfig) -> Option<Dataset> {
        self.validation?;
        let micro_batch = self.layout.micro_batch();
        let eval =
            Self::new(Arc::clone(&self.store), config, Split::Eval, micro_batch).with_pictures(self.pictures.clone());
        let (decisions, kept) = (self.decisions.clone(), self.kept.clone());
        Some(Self { decisions, files: self.files.clone(), notes: self.notes.clone(), kept, ..eval })
    }

    /// The packs of epoch `epoch` (from 0) under `seed`: a pure function of the two and the data. Rows without a
    /// labelled token are left out, because they train nothing. Evaluation visits every row once, in the order of the
    /// data.
    ///
    /// The first epoch and the one asked for last are remembered.
    pub fn epoch(&self, seed: u64, epoch: u64) -> Arc<Epoch> {
        let remembered = |memory: &Memory| memory.find(seed, epoch);
        if let Some(found) = remembered(&self.memory.lock().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        let made = Arc::new(self.layout.epoch(seed, epoch, &self.rows, &self.portions));
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).keep(seed, epoch, Arc::clone(&made));
        made
    }

    /// Number of rows that an epoch visits, before limits over the whole run.
    pub(crate) fn visits(&self) -> u64 {
        self.portions.iter().fold(0, |sum, (portion, _)| sum.saturating_add(portion.each()))
    }

    /// Number of packs in an epoch. It is remembered for every epoch that was laid out.
    pub fn packs(&self, seed: u64, epoch: u64) -> usize {
        let known = self.memory.lock().unwrap_or_else(PoisonError::into_inner).count(seed, epoch);
        known.unwrap_or_else(|| self.epoch(seed, epoch).packs.len())
    }

    /// Number of epochs after which no row is left to visit; absent when there is no such end.
    pub fn epochs(&self) -> Option<u64> {
        match self.split {
            Split::Train => {
                self.portions.iter().map(|(portion, _)| portion.ends()).max_by_key(|end| end.unwrap_or(u64::MAX))?
            }
            Split::Eval => None,
        }
    }

    /// The batch of some packs of an epoch.
    ///
    /// # Errors
    /// When a row on disk is not as it was written, or a file that it names changed.
    pub fn batch(&self, packs: &[Pack]) -> Result<Batch, DataError> {
        let (length, example) = (|number| self.length(number), |number| self.example(number));
        Batch::fetch(self.kind(), self.documents, packs, length, example, |example| self.arrays(example))
    }

    /// What the model is given for an example of tensors.
    ///
    /// # Errors
    /// An example of tokens; a file or a picture that is not as it was prepared.
    pub fn arrays(&self, example: &Example) -> Result<NamedArrays, DataError> {
        match &example.content {
            ExampleContent::Tensors(file) => file.read(&example.source),
            ExampleContent::Pictured(pictured) => {
                pictured.arrays(&example.source, self.pictures(example)?, self.classes.as_deref())
            }
            ExampleContent::Tokens(_) => Err(no_tensors(example)),
        }
    }

    /// The same without real numbers, which takes no pixels to be decoded.
    ///
    /// # Errors
    /// As [`Self::arrays`].
    pub fn outline(&self, example: &Example) -> Result<NamedOutlines, DataError> {
        match &example.content {
            ExampleContent::Tensors(file) => file.outline(&example.source),
            ExampleContent::Pictured(pictured) => {
                pictured.outline(&example.source, self.pictures(example)?, self.classes.as_deref())
            }
            ExampleContent::Tokens(_) => Err(no_tensors(example)),
        }
    }

    /// How the model reads pictures, for an example that has one.
    fn pictures(&self, example: &Example) -> Result<&Pictures, DataError> {
        let absent = || {
            DataError::row(
                &example.source,
                "a row that the model reads",
                "a picture, and the folder of the model does not say how it reads pictures: that takes preprocessor_config.json, and a tokenizer for captions",
            )
        };
        self.pictures.as_deref().ok_or_else(absent)
    }

    /// The same rows for a model that reads pictures so.
    pub fn with_pictures(self, pictures: Option<Arc<Pictures>>) -> Self {
        Self { pictures, ..self }
    }

    /// The same rows, where `classes` say what the labels of rows with pictures are to be learned as.
    pub fn with_classes(self, classes: Classes) -> Self {
        Self { classes: Some(Arc::new(classes)), ..self }
    }

    /// Number of tokens of all examples.
    pub fn tokens(&self) -> usize {
        self.rows.tokens as usize
    }

    /// Number of tokens that are learned to be predicted, in all examples.
    pub fn labelled_tokens(&self) -> usize {
        self.rows.labelled as usize
    }

    /// The number of the longest example; absent when there are no examples.
    pub fn longest(&self) -> Option<usize> {
        (0..self.len()).max_by_key(|number| self.rows.lengths[*number])
    }

    /// What the examples of a pack are to each other.
    pub fn documents(&self) -> DocumentAttention {
        self.documents
    }

    /// The most tokens that positions may count on from 0: those of the longest example, or, where documents are joined,
    /// those of a full window, if there are so many.
    pub fn most_positions(&self) -> usize {
        match self.layout.window().filter(|_| self.documents.is_joined()) {
            Some(window) => window.min(self.tokens()),
            None => self.longest().map_or(0, |number| self.length(number)),
        }
    }

    /// Whether a chat template rendered any of the rows.
    pub fn rendered(&self) -> bool {
        self.rows.rendered
    }

    /// The largest id among tokens and labels, with its row; it must be below the model's vocabulary size.
    pub fn largest_id(&self) -> Option<(u32, Location)> {
        self.rows.largest.map(|(id, number)| (id, self.location(number)))
    }

    /// SHA-256 over the tokens, labels and weights of all examples (of tensors, over their files), and over the size,
    /// weight and limits of each source.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        self.entries(|_, entry| hash.update(entry.digest));
        for ((_, weight), rows) in self.portions.iter().zip(&self.rows.sources) {
            hash.update((*rows as u64).to_le_bytes());
            hash.update(weight.to_le_bytes());
        }
        // Only limited sources add to the hash, so that data without limits keeps its hash.
        for (portion, _) in self.portions.iter().filter(|(portion, _)| portion.is_limited()) {
            hash.update(format!("{:?} {:?}", portion.amount, portion.epochs));
        }
        hex(&hash.finalize())
    }
}

fn no_tensors(example: &Example) -> DataError {
    DataError::row(&example.source, RowKind::Tensors.to_string(), "a row of tokens")
}
