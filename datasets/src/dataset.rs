//! A split, encoded: its rows in the order of the data, and from them the packs of an epoch and the batches of a step.

use std::ops::Range;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::batch::Batch;
use crate::config::{DataConfig, Split};
use crate::example::{self, Example, Part};
use crate::format::Decision;
use crate::location::Location;
use crate::order;
use crate::pack::{self, Pack};
use crate::prepare::FileInfo;
use crate::tokenizer::hex;

/// An encoded split.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Which half of the data it is.
    pub split: Split,
    /// The rows, in the order of sources, files and lines.
    pub examples: Vec<Example>,
    /// The format of each source, and why.
    pub decisions: Vec<Decision>,
    /// The files the rows came from, with their hashes; empty where only the first rows were asked for.
    pub files: Vec<FileInfo>,
    /// Rows left out because of their length, with their length.
    pub dropped: Vec<(Location, usize)>,
    /// Rows left out because they could not be used.
    pub broken: Broken,
    /// Rows and weight of each source; a pair is one row.
    sizes: Vec<(usize, f64)>,
    max_length: usize,
    packing: bool,
    shuffle: bool,
}

/// Rows that could not be used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// How many.
    pub count: usize,
    /// The first of them, and what is wrong with each.
    pub first: Vec<(Location, String)>,
}

/// What an epoch visits, in order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Epoch {
    /// The packs; a step takes the next `batch_size` of them.
    pub packs: Vec<Pack>,
    /// The share of the windows that holds tokens, 0 to 1; without packing a window is as long as the longest row.
    pub efficiency: f64,
}

impl Dataset {
    pub(crate) fn new(config: &DataConfig, split: Split) -> Self {
        Self {
            split,
            examples: Vec::new(),
            decisions: Vec::new(),
            files: Vec::new(),
            dropped: Vec::new(),
            broken: Broken::default(),
            sizes: Vec::new(),
            max_length: config.max_length,
            packing: config.packing,
            shuffle: config.shuffle,
        }
    }

    pub(crate) fn add_source(&mut self, rows: usize, weight: f64) {
        self.sizes.push((rows, weight));
    }

    /// The packs of epoch `epoch` (from 0) under `seed`: a pure function of the two and the data. Rows without a
    /// labelled token teach nothing and are left out. Evaluation visits every row once, in the order of the data.
    pub fn epoch(&self, seed: u64, epoch: u64) -> Epoch {
        let rows = self.rows();
        let mut visits = match self.split {
            Split::Train => order::visits(seed, epoch, &self.sizes, self.shuffle),
            Split::Eval => (0..rows.len()).collect(),
        };
        visits.retain(|&row| self.examples[rows[row].clone()].iter().all(|example| example.labelled_tokens() > 0));
        let length = |row: usize| self.examples[rows[row].clone()].iter().map(|example| example.input_ids.len()).sum();
        // Each of a pair may be as long as a row, and both lie in one window.
        let width = rows.iter().map(Range::len).max().unwrap_or(1);
        let (mut packs, window) = match self.packing {
            true => (pack::best_fit(&visits, length, width * self.max_length), width * self.max_length),
            false => {
                let longest = visits.iter().map(|&row| length(row)).max();
                (pack::singles(&visits, length), longest.unwrap_or(0))
            }
        };
        for pack in &mut packs {
            pack.rows = pack.rows.iter().flat_map(|&row| rows[row].clone()).collect();
        }
        let efficiency = pack::efficiency(&packs, window);
        Epoch { packs, efficiency }
    }

    /// The examples of each row: one, or a pair.
    fn rows(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        let range = |row: &[Example]| {
            let end = start + row.len();
            std::mem::replace(&mut start, end)..end
        };
        example::rows(&self.examples).map(range).collect()
    }

    /// The batch of some packs of an epoch.
    pub fn batch(&self, packs: &[Pack]) -> Batch {
        Batch::new(&self.examples, packs)
    }

    /// Tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.examples.iter().map(|example| example.input_ids.len()).sum()
    }

    /// Tokens that are learned to be predicted, in all rows.
    pub fn labelled_tokens(&self) -> usize {
        self.examples.iter().map(Example::labelled_tokens).sum()
    }

    /// The largest id among tokens and labels; it must be below the model's vocabulary size.
    pub fn largest_id(&self) -> Option<(u32, &Location)> {
        self.examples
            .iter()
            .filter_map(|example| {
                let label = example.labels.iter().copied().max().unwrap_or(0).max(0) as u32;
                let id = example.input_ids.iter().copied().max()?;
                Some((id.max(label), &example.source))
            })
            .max_by_key(|(id, _)| *id)
    }

    /// SHA-256 of all tokens, labels and weights: what the run really sees of its data.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for example in &self.examples {
            hash.update(example.digest());
        }
        for (rows, weight) in &self.sizes {
            hash.update((*rows as u64).to_le_bytes());
            hash.update(weight.to_le_bytes());
        }
        hex(&hash.finalize())
    }
}

impl Example {
    /// A hash of what the row teaches: its tokens, labels and weights.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update((self.input_ids.len() as u64).to_le_bytes());
        for id in &self.input_ids {
            hash.update(id.to_le_bytes());
        }
        for label in &self.labels {
            hash.update(label.to_le_bytes());
        }
        for weight in &self.weights {
            hash.update(weight.to_le_bytes());
        }
        match self.part {
            Part::Alone => {}
            Part::Chosen | Part::Good => hash.update([1]),
            Part::Rejected | Part::Bad => hash.update([0]),
        }
        hash.finalize().into()
    }
}
