//! The QR decomposition of a few long vectors, by Householder's reflections in f64 (Golub and Van Loan 2013, section 5.2).
//!
//! Memory is that of the vectors; Burn's own makes a square `Q` of the long side, which for the factors of an adapter is larger
//! than the weight. The bits do not depend on threads: each works on whole vectors.

use rayon::prelude::*;

use crate::cpu::vectorised;
use crate::factorise::fix_signs;
use crate::matmul::{Elements, Matrix, Store, multiply_parallel};
use crate::precision::Precision;

/// The first parts of `M = Q R`, for `matrix` `[rows, columns]`, row-major: `Q` `[rows, components]` with orthonormal columns and
/// `R` `[components, columns]` upper triangular. The signs are as in [`crate::Svd`].
///
/// # Panics
/// More components than the matrix has rows or columns.
pub fn qr(matrix: &[f32], rows: usize, columns: usize, components: usize) -> (Vec<f32>, Vec<f32>) {
    assert!(components <= rows.min(columns), "{components} components of {rows} x {columns}");
    let first: Vec<f32> = (0..components).flat_map(|c| matrix.iter().skip(c).step_by(columns).copied()).collect();
    let Orthonormal { vectors, triangle, .. } = orthonormal(&first, rows);
    let others = columns - components;
    let mut across = vec![0.0; components * others];
    if others > 0 {
        let left = Matrix::dense(Elements::F32(&vectors), components, rows);
        let right = Matrix::strided(&matrix[components..], rows, others, columns);
        multiply_parallel(&mut across, left, right, Store::Replace, Precision::F32);
    }
    let mut r = Vec::with_capacity(components * columns);
    for component in 0..components {
        r.extend(triangle[component * components..][..components].iter().map(|value| *value as f32));
        r.extend_from_slice(&across[component * others..][..others]);
    }
    let mut q: Vec<f32> = (0..rows).flat_map(|row| vectors.iter().skip(row).step_by(rows).copied()).collect();
    fix_signs(&mut q, &mut r, components, columns);
    (q, r)
}

/// Vectors `v_j` as `v_j = sum_i triangle[i][j] vectors[i]`.
pub(crate) struct Orthonormal {
    /// `[components, length]`: orthonormal, as many as the smaller of count and length.
    pub vectors: Vec<f32>,
    /// `[components, count]`, upper triangular.
    pub triangle: Vec<f64>,
    /// How many there are.
    pub components: usize,
}

/// Decomposes `vectors` `[count, length]`.
pub(crate) fn orthonormal(vectors: &[f32], length: usize) -> Orthonormal {
    let count = vectors.len() / length.max(1);
    let components = count.min(length);
    let mut work: Vec<f64> = vectors.iter().map(|value| f64::from(*value)).collect();
    let mut reflections = vec![Reflection::default(); components];
    for (step, reflection) in reflections.iter_mut().enumerate() {
        let (done, others) = work.split_at_mut((step + 1) * length);
        let axis = &mut done[step * length + step..];
        *reflection = Reflection::of(axis);
        others.par_chunks_mut(length).for_each(|other| reflection.apply(axis, &mut other[step..]));
    }
    let mut triangle = vec![0.0; components * count];
    for (place, value) in triangle.iter_mut().enumerate() {
        let (step, other) = (place / count, place % count);
        *value = match other.cmp(&step) {
            std::cmp::Ordering::Less => 0.0,
            std::cmp::Ordering::Equal => reflections[step].length,
            std::cmp::Ordering::Greater => work[other * length + step],
        };
    }
    let mut found = vec![0.0_f32; components * length];
    found.par_chunks_mut(length.max(1)).enumerate().for_each(|(index, found)| {
        let mut vector = vec![0.0; length];
        vector[index] = 1.0;
        for step in (0..=index).rev() {
            reflections[step].apply(&work[step * length + step..][..length - step], &mut vector[step..]);
        }
        found.iter_mut().zip(&vector).for_each(|(found, value)| *found = *value as f32);
    });
    Orthonormal { vectors: found, triangle, components }
}

/// `I - factor axis axis^T`, which takes a vector to `length` times the first unit vector.
#[derive(Clone, Copy, Default)]
struct Reflection {
    factor: f64,
    length: f64,
}

impl Reflection {
    /// That of `vector`, which becomes the axis; the identity where it is zero.
    fn of(vector: &mut [f64]) -> Self {
        let norm = dot(vector, vector).sqrt();
        if norm == 0.0 {
            return Self::default();
        }
        let first = vector[0];
        let length = if first > 0.0 { -norm } else { norm };
        vector[0] = first - length;
        Self { factor: 1.0 / (norm * (norm + first.abs())), length }
    }

    fn apply(self, axis: &[f64], vector: &mut [f64]) {
        if self.factor == 0.0 {
            return;
        }
        vectorised(
            #[inline(always)]
            || {
                let share = self.factor * dot(axis, vector);
                vector.iter_mut().zip(axis).for_each(|(value, axis)| *value -= share * axis);
            },
        );
    }
}

/// In an order of its own that does not depend on the processor.
#[inline(always)]
fn dot(left: &[f64], right: &[f64]) -> f64 {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (left, right) in left.iter().zip(right) {
        for lane in 0..8 {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_pools, numbers};

    fn product(left: &[f32], right: &[f32], [rows, inner, columns]: [usize; 3]) -> Vec<f64> {
        let at = |row: usize, column: usize| {
            (0..inner).map(|k| f64::from(left[row * inner + k]) * f64::from(right[k * columns + column])).sum()
        };
        (0..rows * columns).map(|place| at(place / columns, place % columns)).collect()
    }

    fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
        (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns).copied()).collect()
    }

    #[test]
    fn q_is_orthonormal_and_q_r_is_the_matrix() {
        for [rows, columns] in [[7, 4], [4, 7], [5, 5], [300, 20], [1, 3]] {
            let (matrix, inner) = (numbers(rows * columns, 2), rows.min(columns));
            let (q, r) = qr(&matrix, rows, columns, inner);
            for (found, expected) in product(&q, &r, [rows, inner, columns]).iter().zip(&matrix) {
                assert!((found - f64::from(*expected)).abs() < 1e-6, "{found} {expected}");
            }
            for (place, found) in product(&transposed(&q, inner), &q, [inner, rows, inner]).iter().enumerate() {
                let expected = if place / inner == place % inner { 1.0 } else { 0.0 };
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
            assert!((0..inner).all(|row| r[row * columns..][..row].iter().all(|below| *below == 0.0)));
        }
    }

    #[test]
    fn the_first_components_are_those_of_the_whole() {
        let matrix = numbers(9 * 7, 3);
        let ((q, r), (first, upper)) = (qr(&matrix, 9, 7, 7), qr(&matrix, 9, 7, 3));
        for (row, found) in first.chunks(3).enumerate() {
            found.iter().zip(&q[row * 7..]).for_each(|(found, expected)| assert!((found - expected).abs() < 1e-6));
        }
        upper.iter().zip(&r).for_each(|(found, expected)| assert!((found - expected).abs() < 1e-6));
    }

    #[test]
    fn vectors_that_depend_on_each_other_have_a_decomposition_too() {
        for matrix in [vec![0.0; 12], [1.0, 2.0, 3.0].repeat(4), vec![1e-30; 12]] {
            let (q, r) = qr(&matrix, 4, 3, 3);
            for (found, expected) in product(&q, &r, [4, 3, 3]).iter().zip(&matrix) {
                assert!((found - f64::from(*expected)).abs() <= 1e-6 * f64::from(expected.abs()), "{found} {expected}");
            }
            assert!((q.iter().map(|value| value * value).sum::<f32>() - 3.0).abs() < 1e-5);
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let matrix = numbers(500 * 40, 4);
        in_pools(|| qr(&matrix, 500, 40, 30));
    }
}
