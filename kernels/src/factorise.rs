//! The singular value decomposition of a dense matrix, on the CPU: for the starting values of adapters and for what is done with finished ones,
//! not for training steps.
//!
//! The sign of every component is open in the mathematics; here the largest number of each row of the right factor is
//! positive, so the result does not depend on the algorithm. The bits are always the same. Of a matrix of which a few components are
//! wanted, or that is a product of narrow factors, see `leading.rs`.

use burn::tensor::{Device, Tensor, TensorData};

/// `M = left * diag(values) * right`, the values falling.
#[derive(Debug, Clone, PartialEq)]
pub struct Svd {
    /// `[rows, components]`, row-major, with orthonormal columns.
    pub left: Vec<f32>,
    /// `components` of them: `min(rows, columns)`, or as many as were asked for.
    pub values: Vec<f32>,
    /// `[components, columns]`, row-major, with orthonormal rows.
    pub right: Vec<f32>,
}

/// Rounds of the singular value decomposition, several times what matrices need.
const SWEEPS: usize = 60;

/// The thin singular value decomposition of `matrix` `[rows, columns]`, row-major. None where a number is not finite.
pub fn svd(matrix: &[f32], rows: usize, columns: usize) -> Option<Svd> {
    if matrix.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let (left, values, right) = burn_linalg::svd::<2, 1>(tensor(matrix, rows, columns), SWEEPS);
    let (mut left, values, mut right) = (host(left), host(values), host(right));
    fix_signs(&mut left, &mut right, values.len(), columns);
    Some(Svd { left, values, right })
}

fn tensor(matrix: &[f32], rows: usize, columns: usize) -> Tensor<2> {
    Tensor::from_data(TensorData::new(matrix.to_vec(), [rows, columns]), &Device::flex())
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

pub(crate) fn fix_signs(left: &mut [f32], right: &mut [f32], components: usize, columns: usize) {
    for component in 0..components {
        let row = &mut right[component * columns..][..columns];
        let larger = |best: f32, value: f32| if value.abs() > best.abs() { value } else { best };
        if row.iter().copied().fold(0.0, larger) < 0.0 {
            row.iter_mut().for_each(|value| *value = -*value);
            left.iter_mut().skip(component).step_by(components).for_each(|value| *value = -*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::numbers;

    fn product(left: &[f32], scale: &[f32], right: &[f32], [rows, inner, columns]: [usize; 3]) -> Vec<f32> {
        let at = |row: usize, column: usize| {
            (0..inner).map(|k| left[row * inner + k] * scale[k] * right[k * columns + column]).sum()
        };
        (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(r, c)| at(r, c)).collect()
    }

    fn assert_near(found: &[f32], expected: impl Iterator<Item = f32>) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    fn identity(size: usize) -> impl Iterator<Item = f32> {
        (0..size * size).map(move |index| if index / size == index % size { 1.0 } else { 0.0 })
    }

    fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
        (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns).copied()).collect()
    }

    #[test]
    fn singular_vectors_are_orthonormal_and_their_product_is_the_matrix() {
        for [rows, columns] in [[7, 4], [4, 7], [5, 5], [1, 3]] {
            let (matrix, inner) = (numbers(rows * columns, 1), rows.min(columns));
            let Svd { left, values, right } = svd(&matrix, rows, columns).unwrap();
            let whole = product(&left, &values, &right, [rows, inner, columns]);
            assert_near(&whole, matrix.iter().copied());
            let ones = vec![1.0; rows.max(columns)];
            assert_near(&product(&transposed(&left, inner), &ones, &left, [inner, rows, inner]), identity(inner));
            assert_near(
                &product(&right, &ones, &transposed(&right, columns), [inner, columns, inner]),
                identity(inner),
            );
            assert!(values.windows(2).all(|pair| pair[0] >= pair[1]), "{values:?}");
        }
    }

    #[test]
    fn the_largest_number_of_every_right_row_is_positive() {
        let Svd { right, .. } = svd(&numbers(30, 3), 6, 5).unwrap();
        for row in right.chunks(5) {
            let largest = row.iter().copied().max_by(|left, right| left.abs().total_cmp(&right.abs())).unwrap();
            assert!(largest > 0.0, "{row:?}");
        }
    }

    #[test]
    fn what_is_not_finite_has_no_decomposition() {
        assert_eq!(svd(&[1.0, f32::NAN, 0.0, 1.0], 2, 2), None);
    }
}
