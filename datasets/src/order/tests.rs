//! Orders are pure, exact, and balanced in every stretch.

use super::*;

fn times(rows: usize, times: f64) -> Portion {
    Portion { rows, amount: Amount::Times(times), epochs: None }
}

fn exactly(rows: usize, count: usize) -> Portion {
    Portion { rows, amount: Amount::Rows(count), epochs: None }
}

/// How often each row is visited.
fn counts(visits: &[u32], rows: usize) -> Vec<usize> {
    let mut counts = vec![0; rows];
    visits.iter().for_each(|row| counts[*row as usize] += 1);
    counts
}

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
    // If these numbers change, the order of every run changes.
    assert_eq!(permutation(42, 0, 10), [5, 0, 2, 4, 6, 7, 8, 9, 3, 1]);
    assert_eq!(visits(42, 0, &[times(10, 1.0)], true), [5, 0, 2, 4, 6, 7, 8, 9, 3, 1]);
}

#[test]
fn every_row_is_as_likely_in_every_place() {
    let mut counts = [[0u32; 5]; 5];
    for seed in 0..5000 {
        for (place, row) in permutation(seed, 0, 5).into_iter().enumerate() {
            counts[place][row as usize] += 1;
        }
    }
    for count in counts.iter().flatten() {
        assert!((850..1150).contains(count), "{counts:?}");
    }
}

#[test]
fn weights_multiply_the_visits_of_a_source() {
    let portions = [times(10, 1.0), times(4, 2.5), times(6, 0.5), times(3, 0.0)];
    let visits = visits(7, 3, &portions, true);
    let counts = counts(&visits, 23);
    assert!(counts[..10].iter().all(|count| *count == 1));
    assert!(counts[10..14].iter().all(|count| *count == 2 || *count == 3));
    assert_eq!(counts[10..14].iter().sum::<usize>(), 10);
    assert_eq!(counts[14..20].iter().sum::<usize>(), 3);
    assert_eq!(counts[20..].iter().sum::<usize>(), 0);
    assert_ne!(visits, super::visits(7, 4, &portions, true));
}

#[test]
fn without_shuffle_rows_come_in_the_order_of_the_data() {
    assert_eq!(visits(7, 3, &[times(3, 1.0), times(2, 1.0)], false), [0, 1, 2, 3, 4]);
    assert_eq!(visits(7, 1, &[exactly(3, 2), times(2, 1.0)], false), [2, 0, 3, 4]);
}

#[test]
fn every_row_of_a_source_comes_before_one_comes_again() {
    for (rows, portion) in [(10, exactly(10, 3)), (10, exactly(10, 25)), (7, times(7, 0.4)), (7, times(7, 1.7))] {
        let mut counts = vec![0; rows + 1];
        for epoch in 0..20 {
            let visits = visits(1, epoch, &[portion, times(1, 1.0)], true);
            let expected = match portion.amount {
                Amount::Rows(count) => count,
                Amount::Times(times) => (times * rows as f64).round() as usize,
            };
            assert_eq!(visits.len(), expected + 1, "{portion:?}");
            visits.iter().for_each(|row| counts[*row as usize] += 1);
            let (least, most) = (counts[..rows].iter().min().unwrap(), counts[..rows].iter().max().unwrap());
            assert!(most - least <= 1, "epoch {epoch} of {portion:?}: {counts:?}");
        }
    }
}

#[test]
fn a_source_ends_after_its_epochs_and_the_others_go_on() {
    let portions = [Portion { epochs: Some(1.5), ..times(8, 1.0) }, times(4, 1.0)];
    let of = |epoch| counts(&visits(3, epoch, &portions, true), 12);
    let (first, second, third) = (of(0), of(1), of(2));
    assert_eq!(first, [1; 12]);
    assert_eq!(second[..8].iter().sum::<usize>(), 4);
    assert_eq!(third[..8].iter().sum::<usize>(), 0);
    assert!([second, third].iter().all(|counts| counts[8..] == [1; 4]));
}

#[test]
fn the_share_of_a_source_is_right_in_every_window() {
    // For many mixtures, each window may deviate by what Webster's method allows.
    for mixture in 0..40_u64 {
        let draw = |purpose: u64, most: u64| u64::from(stream(mixture, 0, purpose, most as usize)[0]) + 1;
        let sources = 2 + (mixture % 4) as usize;
        let portions: Vec<Portion> =
            (0..sources).map(|source| exactly(50, draw(source as u64 + 1, 400) as usize)).collect();
        let visits = visits(mixture, 2, &portions, true);
        let mut first = 0;
        for portion in &portions {
            let Amount::Rows(count) = portion.amount else { panic!() };
            let share = count as f64 / visits.len() as f64;
            let of_source: Vec<usize> =
                visits.iter().map(|row| usize::from((first..first + 50).contains(row))).collect();
            for window in [1, 7, 32, 100, visits.len()] {
                for stretch in of_source.windows(window) {
                    let found = stretch.iter().sum::<usize>() as f64;
                    let off = (found - share * window as f64).abs();
                    assert!(off <= 1.0 + share * sources as f64, "{portions:?}: off by {off} in a window of {window}");
                }
            }
            first += 50;
        }
    }
}
