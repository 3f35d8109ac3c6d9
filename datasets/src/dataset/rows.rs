//! The part of a split's rows that stays in memory: [`Rows`] holds the lengths of examples and which of them form a
//! row.

use std::ops::Range;

use crate::example::Part;
use crate::store::Store;

/// The rows chosen from a store, with the lengths of their examples.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Number of tokens of each example.
    pub lengths: Vec<u32>,
    /// The number in the store of each example; absent when all examples of the store are chosen.
    chosen: Option<Vec<u32>>,
    /// The first example of each row; absent where every row is one example.
    starts: Option<Vec<u32>>,
    /// The rows that train something; absent when all do.
    pub trained: Option<Vec<u32>>,
    /// Number of rows of each source (a pair is one row), and how many of them train something.
    pub sources: Vec<usize>,
    pub trained_sources: Vec<usize>,
    /// Sums over all rows: of tokens, and of labelled tokens.
    pub tokens: u64,
    pub labelled: u64,
    /// The largest token id or label, and the first example that has it.
    pub largest: Option<(u32, usize)>,
    /// Whether a chat template rendered any of them.
    pub rendered: bool,
}

impl Rows {
    /// Chooses the rows whose share, a number below 2^64, is `wanted`.
    pub fn choose(store: &Store, sources: usize, wanted: impl Fn(u64) -> bool) -> Self {
        let mut rows = Self {
            lengths: Vec::new(),
            chosen: None,
            starts: None,
            trained: None,
            sources: vec![0; sources],
            trained_sources: vec![0; sources],
            tokens: 0,
            labelled: 0,
            largest: None,
            rendered: false,
        };
        let (mut chosen, mut starts, mut trained) = (Vec::new(), Vec::new(), Vec::new());
        let mut before = Part::Alone;
        store.entries(|index, entry| {
            if !wanted(entry.share) {
                return;
            }
            let example = rows.lengths.len();
            chosen.push(index as u32);
            rows.lengths.push(entry.length);
            let source = entry.source_index as usize;
            let is_second = (before, entry.part) == (Part::Chosen, Part::Rejected);
            before = entry.part;
            let row = starts.len() as u32;
            if let (Some(all), Some(of)) = (rows.sources.get_mut(source), rows.trained_sources.get_mut(source)) {
                // A pair trains something only when both of its answers do.
                match (is_second, entry.labelled > 0) {
                    (false, labelled) => {
                        starts.push(example as u32);
                        *all += 1;
                        *of += usize::from(labelled);
                        trained.extend(labelled.then_some(row));
                    }
                    (true, false) if trained.pop_if(|last| *last + 1 == row).is_some() => *of -= 1,
                    (true, _) => {}
                }
            }
            rows.tokens += u64::from(entry.length);
            rows.labelled += u64::from(entry.labelled);
            rows.rendered |= entry.notes.rendered;
            if let Some(id) = entry.largest.filter(|id| rows.largest.is_none_or(|(largest, _)| *id > largest)) {
                rows.largest = Some((id, example));
            }
        });
        if trained.len() < starts.len() {
            rows.trained = Some(trained);
        }
        if starts.len() < rows.lengths.len() {
            rows.starts = Some(starts);
        }
        if chosen.len() < store.len() {
            rows.chosen = Some(chosen);
        }
        rows
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.starts.as_ref().map_or(self.lengths.len(), Vec::len)
    }

    /// The numbers of a row's examples: one, or two for a pair.
    pub fn examples(&self, row: usize) -> Range<usize> {
        match &self.starts {
            None => row..row + 1,
            Some(starts) => {
                let end = starts.get(row + 1).map_or(self.lengths.len(), |next| *next as usize);
                starts[row] as usize..end
            }
        }
    }

    /// Number of tokens of a row, all of its examples together.
    pub fn length(&self, row: usize) -> usize {
        self.lengths[self.examples(row)].iter().map(|length| *length as usize).sum()
    }

    /// Number of examples of the widest row.
    pub fn width(&self) -> usize {
        if self.starts.is_some() { 2 } else { 1 }
    }

    /// The number of an example in the store.
    pub fn in_store(&self, example: usize) -> usize {
        self.chosen.as_ref().map_or(example, |chosen| chosen[example] as usize)
    }
}
