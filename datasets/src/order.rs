//! The order in which an epoch visits the rows: a pure function of seed, epoch and number of rows, so that a resumed run
//! seeks instead of replaying, and no thread has a say in it.
//!
//! The shuffle is written out here (Fisher-Yates over ChaCha8) because its result is part of a run's identity, which an
//! upgrade of a random-number library must not change.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The numbers `0..n` in the order of epoch `epoch` under `seed`.
pub fn permutation(seed: u64, epoch: u64, n: usize) -> Vec<usize> {
    stream(seed, epoch, 0, n)
}

/// The rows that an epoch visits, by number. Source `s` holds the next `sizes[s].0` rows and has weight `sizes[s].1`:
/// it contributes `round(weight * rows)` visits, that is each of its rows `floor(weight)` times, and for what is left
/// a part of its rows drawn anew each epoch. Without `shuffle` the visits are in the order of the data.
pub fn visits(seed: u64, epoch: u64, sizes: &[(usize, f64)], shuffle: bool) -> Vec<usize> {
    let mut visits = Vec::new();
    let mut first = 0;
    for (source, &(rows, weight)) in sizes.iter().enumerate() {
        let total = (weight * rows as f64).round() as usize;
        let mut left = total;
        while rows > 0 && left >= rows {
            visits.extend(first..first + rows);
            left -= rows;
        }
        if left > 0 {
            let mut drawn = stream(seed, epoch, source as u64 + 1, rows);
            drawn.truncate(left);
            drawn.sort_unstable();
            visits.extend(drawn.into_iter().map(|row| first + row));
        }
        first += rows;
    }
    if !shuffle {
        return visits;
    }
    permutation(seed, epoch, visits.len()).into_iter().map(|index| visits[index]).collect()
}

/// A permutation of its own for every purpose.
fn stream(seed: u64, epoch: u64, purpose: u64, n: usize) -> Vec<usize> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16..24].copy_from_slice(&purpose.to_le_bytes());
    key[24..].copy_from_slice(b"fb-order");
    let mut rng = ChaCha8Rng::from_seed(key);
    let mut order: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        let chosen = below(&mut rng, last as u64 + 1) as usize;
        order.swap(last, chosen);
    }
    order
}

/// A uniform number below `bound`, without bias: numbers that would favour some remainders are drawn again.
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
mod tests {
    use super::*;

    #[test]
    fn order_is_a_pure_function_of_seed_epoch_and_rows() {
        let order = permutation(42, 0, 1000);
        assert_eq!(order, permutation(42, 0, 1000));
        assert_ne!(order, permutation(42, 1, 1000));
        assert_ne!(order, permutation(43, 0, 1000));
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_is_fixed_for_good() {
        // Changing these numbers changes every run that was ever made.
        assert_eq!(permutation(42, 0, 10), [5, 0, 2, 4, 6, 7, 8, 9, 3, 1]);
    }

    #[test]
    fn every_row_is_as_likely_in_every_place() {
        let mut counts = [[0u32; 5]; 5];
        for seed in 0..5000 {
            for (place, row) in permutation(seed, 0, 5).into_iter().enumerate() {
                counts[place][row] += 1;
            }
        }
        for count in counts.iter().flatten() {
            assert!((850..1150).contains(count), "{counts:?}");
        }
    }

    #[test]
    fn weights_multiply_the_share_of_a_source() {
        let sizes = [(10, 1.0), (4, 2.5), (6, 0.5), (3, 0.0)];
        let visits = visits(7, 3, &sizes, true);
        let count = |row: usize| visits.iter().filter(|visit| **visit == row).count();
        assert!((0..10).all(|row| count(row) == 1));
        assert!((10..14).all(|row| count(row) == 2 || count(row) == 3));
        assert_eq!((10..14).map(count).sum::<usize>(), 10);
        assert_eq!((14..20).map(count).sum::<usize>(), 3);
        assert_eq!((20..23).map(count).sum::<usize>(), 0);
        assert_ne!(visits, super::visits(7, 4, &sizes, true));
    }

    #[test]
    fn without_shuffle_rows_come_in_the_order_of_the_data() {
        assert_eq!(visits(7, 3, &[(3, 1.0), (2, 1.0)], false), [0, 1, 2, 3, 4]);
    }
}
