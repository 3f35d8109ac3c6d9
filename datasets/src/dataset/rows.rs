//! What stays in memory of the rows of a split.

use crate::store::Store;

/// A choice of the rows of a store, and their lengths.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Tokens of each row.
    pub lengths: Vec<u32>,
    /// Where each row is in the store; absent when they are all of its rows.
    chosen: Option<Vec<u32>>,
    /// The rows that train something, with which of the sources each group belongs to; absent when all do.
    pub trained: Option<Vec<u32>>,
    /// Rows of each source, and how many of them train something.
    pub sources: Vec<usize>,
    pub trained_sources: Vec<usize>,
    /// Sums over all rows.
    pub tokens: u64,
    pub labelled: u64,
    /// The largest id, and the first row that has it.
    pub largest: Option<(u32, usize)>,
    /// Whether a chat template wrote any of them.
    pub rendered: bool,
}

impl Rows {
    /// The rows whose share of `0..2^64` is `wanted`.
    pub fn choose(store: &Store, sources: usize, wanted: impl Fn(u64) -> bool) -> Self {
        let mut rows = Self {
            lengths: Vec::new(),
            chosen: None,
            trained: None,
            sources: vec![0; sources],
            trained_sources: vec![0; sources],
            tokens: 0,
            labelled: 0,
            largest: None,
            rendered: false,
        };
        let (mut chosen, mut trained) = (Vec::new(), Vec::new());
        store.entries(|index, entry| {
            if !wanted(entry.share) {
                return;
            }
            let row = rows.lengths.len();
            chosen.push(index as u32);
            rows.lengths.push(entry.length);
            let source = entry.source_index as usize;
            if let (Some(all), Some(of)) = (rows.sources.get_mut(source), rows.trained_sources.get_mut(source)) {
                *all += 1;
                *of += usize::from(entry.labelled > 0);
            }
            if entry.labelled > 0 {
                trained.push(row as u32);
            }
            rows.tokens += u64::from(entry.length);
            rows.labelled += u64::from(entry.labelled);
            rows.rendered |= entry.notes.rendered;
            if let Some(id) = entry.largest.filter(|id| rows.largest.is_none_or(|(largest, _)| *id > largest)) {
                rows.largest = Some((id, row));
            }
        });
        if trained.len() < rows.lengths.len() {
            rows.trained = Some(trained);
        }
        if chosen.len() < store.rows() {
            rows.chosen = Some(chosen);
        }
        rows
    }

    /// The place of a row in the store.
    pub fn in_store(&self, row: usize) -> usize {
        self.chosen.as_ref().map_or(row, |chosen| chosen[row] as usize)
    }
}
