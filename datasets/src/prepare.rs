//! From a recipe's sources to a dataset: read, decide the format, encode on all cores, keep the order of the files.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::{BrokenRows, DataConfig, Format, SourceConfig, Split};
use crate::dataset::{Broken, Dataset};
use crate::error::DataError;
use crate::example::{self, Encoded, Encoder, Example};
use crate::format::{self, Decision};
use crate::location::Location;
use crate::source::{self, Fetch, Reading, Row};
use crate::template::ChatTemplate;
use crate::tokenizer::{Tokenizer, hex};

/// Rows that `auto` looks at, and rows encoded at a time.
const FIRST_ROWS: usize = 32;
const CHUNK: usize = 2048;
/// Broken rows after which reading stops, and how many of them are shown.
const BROKEN: usize = 100;
const SHOWN: usize = 10;

/// What is to be prepared, and with what.
#[derive(Clone, Copy)]
pub struct Prepare<'a> {
    /// The recipe's section.
    pub config: &'a DataConfig,
    /// Which half of it.
    pub split: Split,
    /// The folder that relative paths start from.
    pub base: &'a Path,
    /// The model's tokenizer; only `tokens` rows do without.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The chat template; only rows with messages need it.
    pub template: Option<&'a ChatTemplate>,
    /// Brings the files of `hf://` sources here.
    pub fetch: &'a dyn Fetch,
    /// Keep rendered texts and roles in the examples, for showing them.
    pub keep_text: bool,
    /// Stop after so many rows.
    pub limit: Option<usize>,
    /// Called now and then, from the calling thread.
    pub progress: &'a dyn Fn(Progress),
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

/// Reads and encodes one split of the recipe. The result depends on the files, the tokenizer, the template and the
/// configuration, and on nothing else.
///
/// # Errors
/// When a file cannot be read, a format cannot be decided, or rows are broken: of those the first ten are named.
pub fn prepare(request: &Prepare<'_>) -> Result<Dataset, DataError> {
    let config = request.config;
    check(config)?;
    let sources = config.sources(request.split);
    if sources.is_empty() {
        let name = match request.split {
            Split::Train => "train",
            Split::Eval => "eval",
        };
        return Err(DataError::Config(format!("there is no [[data.{name}]] to read from")));
    }
    let mut work = Vec::new();
    let mut progress = Progress::default();
    for source in sources {
        let files = source::expand(&source.path, request.base, request.split, request.fetch)?;
        for file in &files {
            progress.total_bytes += size(file)?;
        }
        work.push((source, files));
    }
    let mut preparation = Preparation {
        request,
        encoder: Encoder {
            tokenizer: request.tokenizer,
            template: request.template,
            train_on: config.train_on,
            truncation: config.truncation,
            max_length: config.max_length,
            keep_text: request.keep_text,
        },
        dataset: Dataset::new(config, request.split),
        chunk: Vec::new(),
        decided: None,
        progress,
        taken: 0,
    };
    for (index, (source, files)) in work.iter().enumerate() {
        preparation.source(index, source, files)?;
    }
    preparation.refuse_broken()?;
    if request.limit.is_none() {
        for file in work.iter().flat_map(|(_, files)| files) {
            let info = FileInfo { path: file.clone(), sha256: sha256(file)? };
            preparation.dataset.files.push(info);
        }
    }
    Ok(preparation.dataset)
}

fn check(config: &DataConfig) -> Result<(), DataError> {
    if config.max_length < 2 {
        let why = format!("max_length must be at least 2, found {}", config.max_length);
        return Err(DataError::Config(why));
    }
    for source in config.train.iter().chain(&config.eval) {
        source.columns.check()?;
        if !source.weight.is_finite() || source.weight < 0.0 {
            let why = format!("{}: weight must not be negative, found {}", source.path, source.weight);
            return Err(DataError::Config(why));
        }
    }
    Ok(())
}

/// A preparation under way.
struct Preparation<'a> {
    request: &'a Prepare<'a>,
    encoder: Encoder<'a>,
    dataset: Dataset,
    chunk: Vec<Row>,
    decided: Option<Format>,
    progress: Progress,
    taken: usize,
}

impl Preparation<'_> {
    fn source(&mut self, index: usize, source: &SourceConfig, files: &[PathBuf]) -> Result<(), DataError> {
        self.decided = None;
        let before = self.dataset.examples.len();
        let taken_before = self.taken;
        let limit = self.request.limit.unwrap_or(usize::MAX);
        for file in files {
            let mut failed = None;
            let mut receiver = |row: Result<Row, DataError>| {
                if self.taken >= limit || self.has_enough_broken() {
                    return ControlFlow::Break(());
                }
                self.taken += 1;
                match row {
                    Ok(row) => self.chunk.push(row),
                    Err(error) => self.add_broken(&error),
                }
                if self.chunk.len() >= CHUNK
                    && let Err(error) = self.encode(index, source)
                {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            };
            source::read(file, &Reading::from(source), &mut receiver)?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        self.encode(index, source)?;
        if self.taken == taken_before && self.taken < limit && !self.has_enough_broken() {
            return Err(DataError::Source { path: source.path.clone(), why: "there is no row in it".into() });
        }
        let rows = example::rows(&self.dataset.examples[before..]).count();
        self.dataset.add_source(rows, source.weight);
        Ok(())
    }

    /// Encodes the rows read so far.
    fn encode(&mut self, index: usize, source: &SourceConfig) -> Result<(), DataError> {
        let rows = std::mem::take(&mut self.chunk);
        if rows.is_empty() {
            return Ok(());
        }
        let format = match self.decided {
            Some(format) => format,
            None => {
                let first = &rows[..rows.len().min(FIRST_ROWS)];
                let decision: Decision =
                    format::decide(&source.path, source.format, first, self.request.config.broken)?;
                let format = decision.format;
                self.dataset.decisions.push(decision);
                *self.decided.insert(format)
            }
        };
        let encoder = self.encoder;
        let encoded: Vec<(Location, Result<Encoded, DataError>)> = rows
            .par_iter()
            .map(|row| {
                let encoded =
                    format::parse(format, row).and_then(|record| encoder.encode(&record, &row.location, index));
                (row.location.clone(), encoded)
            })
            .collect();
        self.progress.rows += rows.len();
        self.progress.bytes += rows.iter().map(|row| row.bytes).sum::<u64>();
        for (location, encoded) in encoded {
            match encoded {
                Ok(Encoded::Dropped { tokens }) => self.dataset.dropped.push((location, tokens)),
                Ok(encoded @ (Encoded::Examples(_) | Encoded::Pair { .. })) => self.keep(encoded.into_examples()),
                Err(error) if error.is_about_one_row() => self.add_broken(&error),
                Err(error) => return Err(error),
            }
        }
        (self.request.progress)(self.progress);
        Ok(())
    }

    fn keep(&mut self, examples: Vec<Example>) {
        let tokens: usize = examples.iter().map(|example| example.input_ids.len()).sum();
        self.progress.tokens += tokens;
        self.dataset.examples.extend(examples);
    }

    fn add_broken(&mut self, error: &DataError) {
        let broken = &mut self.dataset.broken;
        broken.count += 1;
        if broken.first.len() < SHOWN
            && let Some(location) = error.location()
        {
            broken.first.push((location.clone(), error.to_string()));
        }
    }

    /// Whether so many rows are broken that the others need not be looked at.
    fn has_enough_broken(&self) -> bool {
        match self.request.config.broken {
            BrokenRows::Stop => self.dataset.broken.count >= BROKEN,
            BrokenRows::Skip => false,
        }
    }

    fn refuse_broken(&self) -> Result<(), DataError> {
        let Broken { count, first } = &self.dataset.broken;
        match self.request.config.broken {
            BrokenRows::Stop if *count > 0 => {
                let first = first.iter().map(|(_, error)| error.clone()).collect();
                Err(DataError::Rows { count: *count, first })
            }
            BrokenRows::Stop | BrokenRows::Skip => Ok(()),
        }
    }
}

fn size(path: &Path) -> Result<u64, DataError> {
    std::fs::metadata(path)
        .map(|metadata| metadata.len())
        .map_err(|source| DataError::Read { path: path.to_path_buf(), source })
}

fn sha256(path: &Path) -> Result<String, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests;
