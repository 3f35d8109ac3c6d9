//! Packing: several rows into one window of `max_length` tokens, so that little is padding.
//!
//! Best fit, in the order of the epoch: a row goes into the fullest open window that still has room for it (the oldest
//! of several equally full), else it opens a new one. Deterministic, n log n, and above 95 % full on chat data.

use std::collections::BTreeSet;

use serde::Serialize;

/// Rows that share one window. They never see each other; see [`crate::Batch`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pack {
    /// The rows, by their number in the dataset, in the order they stand in the window.
    pub rows: Vec<usize>,
    /// Their tokens together.
    pub length: usize,
}

/// Packs the rows of `order` (numbers into `lengths`) into windows of `window` tokens. A row longer than that, which
/// truncation does not leave, gets a window of its own.
pub fn best_fit(order: &[usize], lengths: impl Fn(usize) -> usize, window: usize) -> Vec<Pack> {
    let mut packs: Vec<Pack> = Vec::new();
    // Room left and number of every window with room.
    let mut open: BTreeSet<(usize, usize)> = BTreeSet::new();
    for &row in order {
        let length = lengths(row);
        let (room, index) = match open.range((length, 0)..).next().copied() {
            Some(found) => {
                open.remove(&found);
                found
            }
            None => {
                packs.push(Pack::default());
                (window.max(length), packs.len() - 1)
            }
        };
        let pack = &mut packs[index];
        pack.rows.push(row);
        pack.length += length;
        if room > length {
            open.insert((room - length, index));
        }
    }
    packs
}

/// One pack a row, for runs without packing.
pub fn singles(order: &[usize], lengths: impl Fn(usize) -> usize) -> Vec<Pack> {
    order.iter().map(|&row| Pack { rows: vec![row], length: lengths(row) }).collect()
}

/// The share of the windows that holds tokens, 0 to 1.
pub fn efficiency(packs: &[Pack], window: usize) -> f64 {
    let tokens: usize = packs.iter().map(|pack| pack.length).sum();
    match packs.len() as f64 * window as f64 {
        0.0 => 1.0,
        room => tokens as f64 / room,
    }
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
                let share = (row + 1) as f64 / n as f64;
                (30.0 / share.sqrt()).min(900.0) as usize + row % 40
            })
            .collect()
    }

    #[test]
    fn every_row_is_packed_once_and_no_window_overflows() {
        let lengths = lengths(2000);
        let packs = best_fit(&permutation(42, 0, 2000), |row| lengths[row], 1024);
        let mut rows: Vec<usize> = packs.iter().flat_map(|pack| pack.rows.clone()).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..2000).collect::<Vec<_>>());
        for pack in &packs {
            assert_eq!(pack.length, pack.rows.iter().map(|row| lengths[*row]).sum::<usize>());
            assert!(pack.length <= 1024);
        }
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
        let rows: Vec<_> = packs.iter().map(|pack| pack.rows.clone()).collect();
        assert_eq!(rows, [vec![0, 3], vec![1, 2], vec![4]]);
        assert_eq!(efficiency(&packs, 10), 1.0);
    }
}
