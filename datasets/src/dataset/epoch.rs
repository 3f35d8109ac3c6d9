//! An epoch laid out: [`Layout`] decides which rows are visited, in which order and in which packs; [`Memory`] keeps
//! epochs.

use std::collections::HashMap;
use std::sync::Arc;

use super::Rows;
use crate::config::{DataConfig, Split};
use crate::kind::RowKind;
use crate::order::{self, Amount, Portion};
use crate::pack::{self, Packs};

/// What an epoch visits, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Epoch {
    /// The packs; a step takes the next `batch_size` of them.
    pub packs: Packs,
    /// The share of token positions that hold tokens, 0 to 1. With packing these are the positions of all windows;
    /// without, every micro-batch is as long as its longest row.
    pub efficiency: f64,
    /// The same share without `group_by_length`; absent where rows are not grouped.
    pub ungrouped: Option<f64>,
}

/// How rows become packs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Layout {
    visits: Visits,
    packing: Packing,
    micro_batch: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Visits {
    /// Every row once, in the order of the data.
    Once,
    Portions {
        shuffle: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Packing {
    Windows(usize),
    Singles,
    Grouped,
}

impl Layout {
    pub fn new(config: &DataConfig, split: Split, kind: RowKind, micro_batch: usize) -> Self {
        let visits = match split {
            Split::Train => Visits::Portions { shuffle: config.shuffle },
            Split::Eval => Visits::Once,
        };
        let packing = match (kind, config.packing, config.group_by_length, split) {
            // Rows of tensors have no length that could be added up or compared.
            (RowKind::Tensors, ..) => Packing::Singles,
            (RowKind::Tokens, true, ..) => Packing::Windows(config.max_length),
            (RowKind::Tokens, false, true, Split::Train) => Packing::Grouped,
            (RowKind::Tokens, false, ..) => Packing::Singles,
        };
        Self { visits, packing, micro_batch }
    }

    /// The tokens of a window, where rows are packed.
    pub fn window(&self) -> Option<usize> {
        match self.packing {
            Packing::Windows(window) => Some(window),
            Packing::Singles | Packing::Grouped => None,
        }
    }

    pub fn micro_batch(&self) -> usize {
        self.micro_batch
    }

    pub fn epoch(&self, seed: u64, epoch: u64, rows: &Rows, portions: &[(Portion, f64)]) -> Epoch {
        let visits = match self.visits {
            Visits::Once => rows.trained.clone().unwrap_or_else(|| (0..rows.len() as u32).collect()),
            Visits::Portions { shuffle } => visits(seed, epoch, rows, portions, shuffle),
        };
        let length = |row: usize| rows.length(row);
        let padded = |packs: &Packs| pack::padded_efficiency(packs, self.micro_batch);
        // The two answers of a pair lie in one pack, and nothing else: a batch counts pairs.
        let packing = match self.packing {
            Packing::Windows(_) if rows.width() > 1 => Packing::Singles,
            packing => packing,
        };
        let mut epoch = match packing {
            Packing::Windows(window) => {
                let packs = pack::best_fit(&visits, length, window);
                Epoch { efficiency: pack::efficiency(&packs, window), packs, ungrouped: None }
            }
            Packing::Singles => {
                let packs = Packs::singles(visits, length);
                Epoch { efficiency: padded(&packs), packs, ungrouped: None }
            }
            Packing::Grouped => {
                let grouped = pack::group_by_length(&visits, length, self.micro_batch, (seed, epoch));
                let packs = Packs::singles(grouped, length);
                let ungrouped = Some(padded(&Packs::singles(visits, length)));
                Epoch { efficiency: padded(&packs), packs, ungrouped }
            }
        };
        if rows.width() > 1 {
            epoch.packs = epoch.packs.expanded(|row| rows.examples(row));
        }
        epoch
    }
}

fn visits(seed: u64, epoch: u64, rows: &Rows, portions: &[(Portion, f64)], shuffle: bool) -> Vec<u32> {
    let mut portions: Vec<Portion> = portions.iter().map(|(portion, _)| *portion).collect();
    let Some(trained) = &rows.trained else {
        return order::visits(seed, epoch, &portions, shuffle);
    };
    // A single source is ordered before rows that train nothing are left out, so that its order does not depend on
    // them.
    if let [Portion { amount: Amount::Times(_), epochs: None, .. }] = portions[..] {
        let mut visits = order::visits(seed, epoch, &portions, shuffle);
        visits.retain(|row| trained.binary_search(row).is_ok());
        return visits;
    }
    for (portion, count) in portions.iter_mut().zip(&rows.trained_sources) {
        portion.rows = *count;
    }
    let visits = order::visits(seed, epoch, &portions, shuffle);
    visits.into_iter().map(|index| trained[index as usize]).collect()
}

/// Epochs that were laid out before. Layouts are pure functions, so remembering them changes nothing.
#[derive(Debug, Default)]
pub(super) struct Memory {
    counts: HashMap<(u64, u64), usize>,
    /// The first epoch, which many ask for, and the last one asked for.
    first: Option<(u64, Arc<Epoch>)>,
    last: Option<((u64, u64), Arc<Epoch>)>,
}

impl Memory {
    pub fn find(&self, seed: u64, epoch: u64) -> Option<Arc<Epoch>> {
        let first = self.first.as_ref().filter(|(of, _)| (*of, 0) == (seed, epoch)).map(|(_, found)| found);
        let last = self.last.as_ref().filter(|(of, _)| *of == (seed, epoch)).map(|(_, found)| found);
        first.or(last).cloned()
    }

    pub fn count(&self, seed: u64, epoch: u64) -> Option<usize> {
        self.counts.get(&(seed, epoch)).copied()
    }

    pub fn keep(&mut self, seed: u64, epoch: u64, made: Arc<Epoch>) {
        self.counts.insert((seed, epoch), made.packs.len());
        match epoch {
            0 => self.first = Some((seed, made)),
            _ => self.last = Some(((seed, epoch), made)),
        }
    }
}
