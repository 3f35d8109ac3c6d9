//! Packing: [`best_fit`] puts several rows into one window of `max_length` tokens, so that little of it is padding.
//!
//! Rows are taken in the order of the epoch. A row goes into the fullest open window that still has room for it (the
//! oldest of several equally full), or else opens a new window. This is deterministic, takes n log n, and fills chat
//! data above 95 %.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;

use crate::order;

/// Number of batches whose rows are sorted by length together.
const BATCHES: usize = 50;

/// Examples that share one window. They never attend to each other; see [`crate::TokenBatch`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pack {
    /// The examples, by their numbers in the dataset, in the order in which they stand in the window.
    pub examples: Vec<usize>,
    /// Number of tokens of all of them.
    pub length: usize,
}

/// The packs of an epoch, stored compactly for epochs of millions of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packs {
    /// The examples of all packs, one pack after the other; numbers of rows until [`Packs::expanded`].
    numbers: Vec<u32>,
    /// For each pack, its end in `numbers` and its number of tokens.
    packs: Vec<(u32, u32)>,
}

impl Packs {
    /// Number of packs.
    pub fn len(&self) -> usize {
        self.packs.len()
    }

    /// Whether there are no packs.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Pack number `index`, which must be below [`Packs::len`].
    pub fn get(&self, index: usize) -> Pack {
        let start = index.checked_sub(1).map_or(0, |before| self.packs[before].0);
        let (end, length) = self.packs[index];
        let examples = self.numbers[start as usize..end as usize].iter().map(|number| *number as usize).collect();
        Pack { examples, length: length as usize }
    }

    /// All packs, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Pack> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Number of tokens of each pack, in order.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.packs.iter().map(|(_, length)| *length as usize)
    }

    /// The same packs with each row replaced by its examples.
    pub(crate) fn expanded(self, examples: impl Fn(usize) -> Range<usize>) -> Self {
        let (mut numbers, mut packs) = (Vec::new(), Vec::with_capacity(self.packs.len()));
        let mut start = 0;
        for (end, length) in self.packs {
            for row in &self.numbers[start..end as usize] {
                numbers.extend(examples(*row as usize).map(|example| example as u32));
            }
            packs.push((numbers.len() as u32, length));
            start = end as usize;
        }
        Self { numbers, packs }
    }

    /// One pack per row, for runs without packing.
    pub(crate) fn singles(rows: Vec<u32>, length: impl Fn(usize) -> usize) -> Self {
        let packs =
            rows.iter().enumerate().map(|(index, &row)| (index as u32 + 1, length(row as usize) as u32)).collect();
        Self { numbers: rows, packs }
    }
}

/// Packs the rows of `order` into windows of `window` tokens. `lengths` gives the tokens of a row by its number. A row
/// longer than a window (truncation leaves none) gets a window of its own.
pub fn best_fit(order: &[u32], lengths: impl Fn(usize) -> usize, window: usize) -> Packs {
    // The number of rows and tokens of each pack, and the pack of each row of the order.
    let mut packs: Vec<(u32, u32)> = Vec::new();
    let mut chosen: Vec<u32> = Vec::with_capacity(order.len());
    // Room left and number of every window that has room.
    let mut open: BTreeSet<(u32, u32)> = BTreeSet::new();
    for &row in order {
        let length = lengths(row as usize) as u32;
        let (room, index) = match open.range((length, 0)..).next().copied() {
            Some(found) => {
                open.remove(&found);
                found
            }
            None => {
                packs.push((0, 0));
                ((window as u32).max(length), packs.len() as u32 - 1)
            }
        };
        let pack = &mut packs[index as usize];
        (pack.0, pack.1) = (pack.0 + 1, pack.1 + length);
        chosen.push(index);
        if room > length {
            open.insert((room - length, index));
        }
    }
    // Gather each pack's rows, in the order in which they came.
    let mut next = 0;
    let mut places: Vec<u32> = Vec::with_capacity(packs.len());
    for pack in &mut packs {
        places.push(next);
        next += pack.0;
        pack.0 = next;
    }
    let mut rows = vec![0; order.len()];
    for (&row, &index) in order.iter().zip(&chosen) {
        let place = &mut places[index as usize];
        rows[*place as usize] = row;
        *place += 1;
    }
    Packs { numbers: rows, packs }
}

/// The rows of `order`, reordered so that each batch of `batch` rows holds rows of similar length, like the
/// length-grouped sampler of transformers. Stretches of 50 batches are sorted by length and cut into batches, whose
/// order is drawn from seed and epoch, so that lengths do not rise and fall with the steps. No row leaves its stretch.
pub fn group_by_length(
    order: &[u32],
    lengths: impl Fn(usize) -> usize,
    batch: usize,
    (seed, epoch): (u64, u64),
) -> Vec<u32> {
    let batch = batch.max(1);
    let mut grouped = Vec::with_capacity(order.len());
    for (number, stretch) in order.chunks(batch * BATCHES).enumerate() {
        let mut sorted = stretch.to_vec();
        sorted.sort_by_key(|&row| std::cmp::Reverse(lengths(row as usize)));
        // Rows that do not fill a batch stay last, so that all batches before them are whole.
        let (batches, rest) = sorted.split_at(sorted.len() / batch * batch);
        // A purpose that cannot collide with those of sources.
        let drawn = order::stream(seed, epoch, (1 << 32) + number as u64, batches.len() / batch);
        for index in drawn {
            grouped.extend(&batches[index as usize * batch..][..batch]);
        }
        grouped.extend(rest);
    }
    grouped
}

/// The share of token positions that hold tokens, 0 to 1, with windows of `window` tokens.
pub fn efficiency(packs: &Packs, window: usize) -> f64 {
    share(packs.lengths().sum(), packs.len() * window)
}

/// The share of token positions that hold tokens, 0 to 1, in batches of `batch` packs, each as long as its longest
/// pack.
pub fn padded_efficiency(packs: &Packs, batch: usize) -> f64 {
    let lengths: Vec<usize> = packs.lengths().collect();
    let room = lengths.chunks(batch.max(1)).map(|batch| batch.len() * batch.iter().max().unwrap_or(&0)).sum();
    share(lengths.iter().sum(), room)
}

fn share(tokens: usize, room: usize) -> f64 {
    if room == 0 { 1.0 } else { tokens as f64 / room as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::permutation;

    /// Lengths like those of chat rows: many short ones, a long tail.
    fn lengths(n: usize) -> Vec<usize> {
        permutation(1, 0, n)
            .into_iter()
            .map(|row| {
                let share = f64::from(row + 1) / n as f64;
                (30.0 / share.sqrt()).min(900.0) as usize + row as usize % 40
            })
            .collect()
    }

    fn sorted(rows: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut rows: Vec<usize> = rows.collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn every_row_is_packed_once_and_no_window_overflows() {
        let lengths = lengths(2000);
        let packs = best_fit(&permutation(42, 0, 2000), |row| lengths[row], 1024);
        assert_eq!(sorted(packs.iter().flat_map(|pack| pack.examples)), (0..2000).collect::<Vec<_>>());
        for pack in packs.iter() {
            assert_eq!(pack.length, pack.examples.iter().map(|row| lengths[*row]).sum::<usize>());
            assert!(pack.length <= 1024);
        }
        assert_eq!(packs.lengths().sum::<usize>(), lengths.iter().sum::<usize>());
    }

    #[test]
    fn windows_are_more_than_95_percent_full() {
        let lengths = lengths(5000);
        let packs = best_fit(&permutation(42, 0, 5000), |row| lengths[row], 1024);
        let efficiency = efficiency(&packs, 1024);
        assert!(efficiency > 0.95, "{efficiency}");
    }

    #[test]
    fn a_row_goes_where_it_fits_best() {
        let lengths = [6, 7, 3, 4, 10];
        let packs = best_fit(&[0, 1, 2, 3, 4], |row| lengths[row], 10);
        let rows: Vec<_> = packs.iter().map(|pack| pack.examples).collect();
        assert_eq!(rows, [vec![0, 3], vec![1, 2], vec![4]]);
        assert_eq!(efficiency(&packs, 10), 1.0);
    }

    #[test]
    fn grouping_by_length_saves_most_of_the_padding_and_loses_no_row() {
        let lengths = lengths(5003);
        let order = permutation(42, 1, 5003);
        let grouped = group_by_length(&order, |row| lengths[row], 8, (42, 1));
        assert_eq!(grouped, group_by_length(&order, |row| lengths[row], 8, (42, 1)));
        assert_ne!(grouped, group_by_length(&order, |row| lengths[row], 8, (43, 1)));
        assert_eq!(sorted(grouped.iter().map(|row| *row as usize)), (0..5003).collect::<Vec<_>>());
        let efficiency = |rows: &[u32]| padded_efficiency(&Packs::singles(rows.to_vec(), |row| lengths[row]), 8);
        assert!(efficiency(&order) < 0.5, "{}", efficiency(&order));
        assert!(efficiency(&grouped) > 0.9, "{}", efficiency(&grouped));
        // No row leaves its stretch of 50 batches.
        for (before, after) in order.chunks(400).zip(grouped.chunks(400)) {
            assert_eq!(sorted(before.iter().map(|row| *row as usize)), sorted(after.iter().map(|row| *row as usize)));
        }
    }

    #[test]
    fn millions_of_rows_take_seconds() {
        let lengths = lengths(1_000_000);
        let start = std::time::Instant::now();
        let packs = best_fit(&permutation(42, 0, 1_000_000), |row| lengths[row], 4096);
        println!("{} packs of a million rows in {:?}", packs.len(), start.elapsed());
        assert!(efficiency(&packs, 4096) > 0.99);
        // An algorithm that looks at every open window for each row would take hours.
        assert!(start.elapsed().as_secs() < 60);
    }
}
