//! The order of an epoch: [`visits`] is a pure function of seed, epoch and number of rows, so a resumed run seeks to
//! its place instead of replaying, and threads have no influence.
//!
//! The shuffle (Fisher-Yates over ChaCha8) is implemented here because its result identifies a run, and an upgrade of a
//! random-number library must not change it.
//!
//! Several sources alternate. Each is visited in shuffled passes of its own, and its visits are spread evenly over the
//! epoch by Webster's method (the j-th of k visits is due at (2j + 1) / 2k of the epoch), so that a source's share is
//! right in every stretch of the epoch and not only in expectation.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A source, and how much of it an epoch visits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Portion {
    /// Number of rows in the source.
    pub rows: usize,
    /// How many rows an epoch visits.
    pub amount: Amount,
    /// The most visits of the whole run, in passes over the source; absent without a limit.
    pub epochs: Option<f64>,
}

/// How many rows of a source an epoch visits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// All rows, this many times; fractions are allowed.
    Times(f64),
    /// This many rows.
    Rows(usize),
}

impl Portion {
    /// Whether the source has a limit, or a number of rows in place of a weight.
    pub(crate) fn is_limited(&self) -> bool {
        self.epochs.is_some() || matches!(self.amount, Amount::Rows(_))
    }

    /// Number of epochs after which no visits of it are left; absent without a limit.
    pub(crate) fn ends(&self) -> Option<u64> {
        match self.each() {
            0 => Some(0),
            each => self.epochs.map(|epochs| self.part(epochs).div_ceil(each)),
        }
    }

    /// Number of visits per epoch, before the limit.
    pub(crate) fn each(&self) -> u64 {
        match self.amount {
            Amount::Times(times) => self.part(times),
            Amount::Rows(_) if self.rows == 0 => 0,
            Amount::Rows(rows) => rows as u64,
        }
    }

    fn part(&self, times: f64) -> u64 {
        (times * self.rows as f64).round() as u64
    }

    /// The visits of epoch `epoch`, as a range counted from the first visit of the run.
    fn visits(&self, epoch: u64) -> Range<u64> {
        let each = self.each();
        let limit = self.epochs.map_or(u64::MAX, |epochs| self.part(epochs));
        let start = epoch.saturating_mul(each).min(limit);
        start..start.saturating_add(each).min(limit)
    }
}

/// The numbers `0..n`, shuffled for epoch `epoch` under `seed`.
pub fn permutation(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    stream(seed, epoch, 0, n)
}

/// The rows that an epoch visits, by number: the rows of the first source come first, then those of the second.
///
/// A single source of which an epoch visits `times * rows` rows is visited `floor(times)` times; for the remaining
/// fraction rows are drawn anew each epoch. Other sources continue where the epoch before stopped, so every row of a
/// source is visited before one is visited again. Without `shuffle` the visits are in the order of the data.
pub fn visits(seed: u64, epoch: u64, portions: &[Portion], shuffle: bool) -> Vec<u32> {
    if let [Portion { rows, amount: Amount::Times(times), epochs: None }] = *portions {
        return alone(seed, epoch, rows, times, shuffle);
    }
    let mut first = 0;
    let mut each: Vec<Vec<u32>> = Vec::new();
    for (source, portion) in portions.iter().enumerate() {
        let mut visits = passes(seed, source, portion.rows, portion.visits(epoch), shuffle);
        visits.iter_mut().for_each(|row| *row += first);
        each.push(visits);
        first += portion.rows as u32;
    }
    if shuffle { take_turns(&each) } else { each.concat() }
}

/// The visits of a single source. Changing this changes the order of every run with one source.
fn alone(seed: u64, epoch: u64, rows: usize, times: f64, shuffle: bool) -> Vec<u32> {
    let mut visits: Vec<u32> = Vec::new();
    let mut left = (times * rows as f64).round() as usize;
    while rows > 0 && left >= rows {
        visits.extend(0..rows as u32);
        left -= rows;
    }
    if left > 0 {
        let mut drawn = stream(seed, epoch, 1, rows);
        drawn.truncate(left);
        drawn.sort_unstable();
        visits.extend(drawn);
    }
    if !shuffle {
        return visits;
    }
    permutation(seed, epoch, visits.len()).into_iter().map(|index| visits[index as usize]).collect()
}

/// The visits `stretch` of the endless sequence of passes over a source.
fn passes(seed: u64, source: usize, rows: usize, stretch: Range<u64>, shuffle: bool) -> Vec<u32> {
    let mut visits = Vec::with_capacity((stretch.end - stretch.start) as usize);
    let mut next = stretch.start;
    while next < stretch.end {
        let (pass, place) = (next / rows as u64, (next % rows as u64) as usize);
        let count = (rows - place).min((stretch.end - next) as usize);
        match shuffle {
            true => visits.extend(&stream(seed, pass, source as u64 + 1, rows)[place..place + count]),
            false => visits.extend(place as u32..(place + count) as u32),
        }
        next += count as u64;
    }
    visits
}

/// The next visit of a source, due at `place / (2 * count)` of the epoch.
#[derive(PartialEq, Eq)]
struct Due {
    place: u64,
    count: u64,
    source: usize,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = u128::from(self.place) * u128::from(other.count);
        let right = u128::from(other.place) * u128::from(self.count);
        left.cmp(&right).then(self.source.cmp(&other.source))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Merges the visits of all sources, each in its own order and spread evenly.
fn take_turns(each: &[Vec<u32>]) -> Vec<u32> {
    let counts = each.iter().map(|visits| visits.len() as u64).enumerate();
    let mut due: BinaryHeap<Reverse<Due>> = counts
        .filter(|(_, count)| *count > 0)
        .map(|(source, count)| Reverse(Due { place: 1, count, source }))
        .collect();
    let mut visits = Vec::with_capacity(each.iter().map(Vec::len).sum());
    while let Some(Reverse(Due { place, count, source })) = due.pop() {
        visits.push(each[source][(place / 2) as usize]);
        if place + 2 < 2 * count {
            due.push(Reverse(Due { place: place + 2, count, source }));
        }
    }
    visits
}

/// A permutation of `0..n` for one `purpose`; different purposes have independent permutations.
pub(crate) fn stream(seed: u64, epoch: u64, purpose: u64, n: usize) -> Vec<u32> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..24].copy_from_slice(&purpose.to_le_bytes());
    key[24..].copy_from_slice(b"fb-order");
    let mut rng = ChaCha8Rng::from_seed(key);
    let mut order: Vec<u32> = (0..n as u32).collect();
    for last in (1..n).rev() {
        let chosen = below(&mut rng, last as u64 + 1) as usize;
        order.swap(last, chosen);
    }
    order
}

/// A uniform random number below `bound`. Rejection sampling keeps it free of bias.
fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    let unfair = u64::MAX - u64::MAX % bound;
    loop {
        let number = rng.next_u64();
        if number < unfair {
            return number % bound;
        }
    }
}

#[cfg(test)]
mod tests;
