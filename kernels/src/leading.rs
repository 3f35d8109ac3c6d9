//! Singular value decompositions that never cost what one of a large dense matrix does.
//!
//! [`low_rank_svd`] is that of a product of narrow factors: exact, from the QR decompositions of both. [`leading_svd`] is that of
//! the largest components of a dense matrix, by a random start and power iterations that are orthonormalised at every half step
//! (Halko, Martinsson and Tropp 2011, arXiv:0909.4061, algorithm 4.4). What it gives is `U U^T M` for an orthonormal `U`: the best
//! approximation in the span it found. Iterations go on until one of them adds less than a millionth of the size kept, so
//! components are as large as the best ones to about that, though each is only as exact as its singular value stands apart from
//! those left out. Where many components are wanted of a small matrix, the whole decomposition is made.

use crate::factorise::{Svd, fix_signs, svd};
use crate::householder::{Orthonormal, orthonormal};
use crate::matmul::{Elements, Matrix, Store, multiply_parallel};
use crate::precision::Precision;

/// Directions beyond those wanted, which make the others converge.
const MORE: usize = 8;
/// A share of the shorter side from which on the whole decomposition is made, and a length up to which it always is.
const WHOLE_FROM: usize = 4;
const WHOLE_UP_TO: usize = 64;
/// Growth of the sum of squares in one iteration at which they end, and their largest number.
const GROWTH: f64 = 1e-6;
const MOST_ITERATIONS: usize = 60;

/// The decomposition of `left right`, for `left` `[rows, rank]` and `right` `[rank, columns]`, row-major; it has
/// `min(rank, rows, columns)` components. None where a number is not finite. The product itself is not made.
pub fn low_rank_svd(left: &[f32], right: &[f32], rank: usize) -> Option<Svd> {
    if left.iter().chain(right).any(|value| !value.is_finite()) {
        return None;
    }
    let (rows, columns) = (left.len() / rank, right.len() / rank);
    let (left, right) = (orthonormal(&transposed(left, rank), rows), orthonormal(right, columns));
    // [left.components, right.components]
    let mut core = Vec::with_capacity(left.components * right.components);
    for left in left.triangle.chunks(rank) {
        let product = |right: &[f64]| left.iter().zip(right).map(|(left, right)| left * right).sum::<f64>();
        core.extend(right.triangle.chunks(rank).map(product));
    }
    assembled(&core, &left, &right, left.components.min(right.components))
}

/// The `components` largest components of `matrix` `[rows, columns]`, row-major, or all where it has fewer. `draw` gives standard
/// normal numbers. None where a number is not finite.
pub fn leading_svd(
    matrix: &[f32],
    rows: usize,
    columns: usize,
    components: usize,
    draw: &mut dyn FnMut() -> f32,
) -> Option<Svd> {
    let components = components.min(rows).min(columns);
    let width = components + MORE;
    let shorter = rows.min(columns);
    if shorter <= WHOLE_UP_TO || width * WHOLE_FROM > shorter {
        return svd(matrix, rows, columns).map(|found| first(&found, components));
    }
    if matrix.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let whole = Matrix::dense(Elements::F32(matrix), rows, columns);
    let mut right: Vec<f32> = (0..width * columns).map(|_| draw()).collect();
    let mut kept = 0.0;
    for iteration in 1.. {
        let mut across = vec![0.0; width * rows];
        let directions = Matrix::dense(Elements::F32(&right), width, columns);
        multiply_parallel(&mut across, directions, whole.transposed(), Store::Replace, Precision::F32);
        let left = orthonormal(&across, rows);
        let mut across = vec![0.0; width * columns];
        let directions = Matrix::dense(Elements::F32(&left.vectors), width, rows);
        multiply_parallel(&mut across, directions, whole, Store::Replace, Precision::F32);
        let found = orthonormal(&across, columns);
        // The matrix in the span is left^T across, and across is the transposed triangle times the vectors.
        let core: Vec<f64> =
            (0..width * width).map(|place| found.triangle[place % width * width + place / width]).collect();
        let svd = scaled_svd(&core, width, width)?;
        let size: f64 = svd.values[..components].iter().map(|value| f64::from(*value).powi(2)).sum();
        if !size.is_finite() {
            return None;
        }
        if size <= kept * (1.0 + GROWTH) || iteration == MOST_ITERATIONS {
            return Some(turned(&svd, &left, &found, components));
        }
        (kept, right) = (size, found.vectors);
    }
    None
}

/// The Frobenius norm of `matrix - left right`, for `matrix` `[rows, columns]`, `left` `[rows, rank]` and `right`
/// `[rank, columns]`, row-major.
pub fn distance_to_product(matrix: &[f32], left: &[f32], right: &[f32], rank: usize) -> f64 {
    let (rows, columns) = (left.len() / rank, right.len() / rank);
    let mut apart: Vec<f32> = matrix.iter().map(|value| -value).collect();
    let left = Matrix::dense(Elements::F32(left), rows, rank);
    multiply_parallel(&mut apart, left, Matrix::dense(Elements::F32(right), rank, columns), Store::Add, Precision::F32);
    apart.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// The decomposition of `left.vectors^T core right.vectors`.
fn assembled(core: &[f64], left: &Orthonormal, right: &Orthonormal, components: usize) -> Option<Svd> {
    Some(turned(&scaled_svd(core, left.components, right.components)?, left, right, components))
}

/// [`svd`] of numbers whose squares may lie outside of f32.
fn scaled_svd(core: &[f64], rows: usize, columns: usize) -> Option<Svd> {
    let largest = core.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let scaled: Vec<f32> = core.iter().map(|value| (value / scale) as f32).collect();
    let mut found = svd(&scaled, rows, columns)?;
    found.values.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
    found.values.iter().all(|value| value.is_finite()).then_some(found)
}

/// The first components of a decomposition in the spans of `left` and `right`.
fn turned(core: &Svd, left: &Orthonormal, right: &Orthonormal, components: usize) -> Svd {
    let found = first(core, components);
    let (rows, columns) = (left.vectors.len() / left.components, right.vectors.len() / right.components);
    let mut svd =
        Svd { left: vec![0.0; rows * components], values: found.values, right: vec![0.0; components * columns] };
    let basis = Matrix::dense(Elements::F32(&left.vectors), left.components, rows).transposed();
    let turn = Matrix::dense(Elements::F32(&found.left), left.components, components);
    multiply_parallel(&mut svd.left, basis, turn, Store::Replace, Precision::F32);
    let turn = Matrix::dense(Elements::F32(&found.right), components, right.components);
    let basis = Matrix::dense(Elements::F32(&right.vectors), right.components, columns);
    multiply_parallel(&mut svd.right, turn, basis, Store::Replace, Precision::F32);
    fix_signs(&mut svd.left, &mut svd.right, components, columns);
    svd
}

fn first(svd: &Svd, components: usize) -> Svd {
    let all = svd.values.len().max(1);
    let columns = svd.right.len() / all;
    Svd {
        left: svd.left.chunks(all).flat_map(|row| row[..components].to_vec()).collect(),
        values: svd.values[..components].to_vec(),
        right: svd.right[..components * columns].to_vec(),
    }
}

fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_pools, numbers};

    fn product(left: &[f32], right: &[f32], inner: usize) -> Vec<f32> {
        let columns = right.len() / inner;
        let at = |row: &[f32], column: usize| -> f64 {
            (0..inner).map(|k| f64::from(row[k]) * f64::from(right[k * columns + column])).sum()
        };
        left.chunks(inner).flat_map(|row| (0..columns).map(move |column| at(row, column) as f32)).collect()
    }

    fn scaled(svd: &Svd) -> Vec<f32> {
        let components = svd.values.len();
        svd.left.iter().enumerate().map(|(place, value)| value * svd.values[place % components]).collect()
    }

    fn norm(values: impl Iterator<Item = f32>) -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
    }

    fn apart(left: &[f32], right: &[f32]) -> f64 {
        norm(left.iter().zip(right).map(|(left, right)| left - right)) / norm(right.iter().copied())
    }

    fn draws() -> impl FnMut() -> f32 {
        // The sum of twelve uniform numbers is nearly normal.
        let mut seed = 0;
        move || {
            seed += 1;
            numbers(12, seed).iter().sum()
        }
    }

    #[test]
    fn a_product_of_factors_is_decomposed_as_its_dense_matrix() {
        for [rows, rank, columns] in [[9, 3, 12], [12, 3, 9], [4, 6, 5], [3, 5, 7], [7, 5, 3], [200, 1, 150]] {
            let (left, right) = (numbers(rows * rank, 1), numbers(rank * columns, 2));
            let dense = product(&left, &right, rank);
            let (found, expected) = (low_rank_svd(&left, &right, rank).unwrap(), svd(&dense, rows, columns).unwrap());
            let components = rank.min(rows).min(columns);
            assert_eq!(found.values.len(), components);
            for (found, expected) in found.values.iter().zip(&expected.values) {
                assert!((found - expected).abs() < 1e-5 * expected.max(1e-3), "{found} {expected}");
            }
            assert!(apart(&product(&scaled(&found), &found.right, components), &dense) < 1e-5);
        }
    }

    #[test]
    fn factors_of_zero_and_of_any_size_have_a_decomposition() {
        assert_eq!(low_rank_svd(&[0.0; 8], &numbers(6, 1), 2).unwrap().values, [0.0, 0.0]);
        for size in [1e-18_f32, 1e18] {
            let grown = |seed| numbers(20, seed).iter().map(|value| value * size).collect::<Vec<_>>();
            let found = low_rank_svd(&grown(1), &grown(2), 2).unwrap().values;
            let expected = low_rank_svd(&numbers(20, 1), &numbers(20, 2), 2).unwrap().values;
            for (found, expected) in found.iter().zip(expected) {
                let found = f64::from(*found) / f64::from(size).powi(2);
                assert!((found - f64::from(expected)).abs() < 1e-5, "{found} {expected}");
            }
        }
        assert_eq!(low_rank_svd(&[1e30; 4], &[1e30; 4], 1), None);
        assert_eq!(low_rank_svd(&[f32::NAN; 4], &[1.0; 4], 1), None);
    }

    #[test]
    fn a_matrix_of_low_rank_is_found_whole() {
        let (rows, rank, columns) = (90, 4, 70);
        let dense = product(&numbers(rows * rank, 1), &numbers(rank * columns, 2), rank);
        let found = leading_svd(&dense, rows, columns, rank, &mut draws()).unwrap();
        assert!(apart(&product(&scaled(&found), &found.right, rank), &dense) < 1e-6);
        assert_eq!(leading_svd(&vec![0.0; 4900], 70, 70, 2, &mut draws()).unwrap().values, [0.0, 0.0]);
    }

    #[test]
    fn the_largest_components_are_those_of_the_whole_decomposition() {
        // Noise: the hardest case, in which no component stands apart.
        for (rows, columns) in [(120, 100), (100, 130)] {
            let matrix = numbers(rows * columns, 5);
            let found = leading_svd(&matrix, rows, columns, 6, &mut draws()).unwrap();
            let whole = svd(&matrix, rows, columns).unwrap();
            for (found, expected) in found.values.iter().zip(&whole.values) {
                assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
            }
            let left = |svd: &Svd| apart(&product(&scaled(svd), &svd.right, 6), &matrix);
            assert!(left(&found) < left(&first(&whole, 6)) * (1.0 + 1e-5));
        }
    }

    #[test]
    fn a_small_matrix_is_decomposed_whole() {
        let matrix = numbers(42, 6);
        let found = leading_svd(&matrix, 6, 7, 3, &mut || unreachable!("nothing is drawn")).unwrap();
        assert_eq!(found, first(&svd(&matrix, 6, 7).unwrap(), 3));
        assert_eq!(leading_svd(&matrix, 6, 7, 30, &mut draws()).unwrap().values.len(), 6);
        assert_eq!(leading_svd(&[f32::NAN; 4900], 70, 70, 2, &mut draws()), None);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let matrix = numbers(300 * 200, 7);
        in_pools(|| leading_svd(&matrix, 300, 200, 5, &mut draws()));
    }
}
