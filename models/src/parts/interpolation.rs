//! [`Interpolation`]: a table of positions on one grid of patches, resampled to another grid.
//!
//! Bicubic by convolution (Keys 1981), corners not aligned, positions beyond the border are those of the border; as torch's
//! `interpolate(mode="bicubic")`, whose factors are computed in f32. Resampling is linear and acts on rows and on columns
//! separately: each side has a matrix of factors, and gradients follow the two products.

use burn::tensor::{Device, Tensor, TensorData};
use firebrand_kernels::{Precision, multiply};

/// How a table of positions is resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// Each new position is read between its four neighbours on each side, however much smaller the new grid is.
    Bicubic,
    /// The same with antialias: on a smaller grid, more neighbours count.
    BicubicAntialias,
}

impl Interpolation {
    /// The table `[side * side, width]` of a square grid as that of a grid of `[rows, columns]`, `[rows * columns, width]`.
    pub(super) fn resample(self, table: Tensor<2>, side: usize, [rows, columns]: [usize; 2]) -> Tensor<2> {
        let ([_, width], device) = (table.dims(), table.device());
        let down = multiply(self.matrix(side, rows, &device), table.reshape([side, side * width]), Precision::F32);
        let across = down.reshape([rows, side, width]).swap_dims(0, 1).reshape([side, rows * width]);
        let both = multiply(self.matrix(side, columns, &device), across, Precision::F32);
        both.reshape([columns, rows, width]).swap_dims(0, 1).reshape([rows * columns, width])
    }

    /// The factors `[new, old]` by which one side is resampled.
    fn matrix(self, old: usize, new: usize, device: &Device) -> Tensor<2> {
        let row = |at: usize| match self {
            Self::Bicubic => neighbours(at, old, new),
            Self::BicubicAntialias => antialiased(at, old, new),
        };
        let factors: Vec<f32> = (0..new).flat_map(row).collect();
        Tensor::from_data(TensorData::new(factors, [new, old]), device)
    }
}

/// The cubic at a distance, with the slope `a` at distance one.
fn cubic(distance: f32, a: f32) -> f32 {
    let x = distance.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

/// The factors of the new position `at`, on the four old ones around it.
fn neighbours(at: usize, old: usize, new: usize) -> Vec<f32> {
    const SLOPE: f32 = -0.75;
    let scale = old as f32 / new as f32;
    let place = scale * (at as f32 + 0.5) - 0.5;
    let below = place.floor();
    let mut factors = vec![0.0; old];
    for step in -1..=2 {
        let position = below + step as f32;
        let inside = position.clamp(0.0, (old - 1) as f32) as usize;
        factors[inside] += cubic(place - position, SLOPE);
    }
    factors
}

/// The same, on all old positions within reach, which grows as the grid shrinks.
fn antialiased(at: usize, old: usize, new: usize) -> Vec<f32> {
    const SLOPE: f32 = -0.5;
    let scale = old as f32 / new as f32;
    let stretch = scale.max(1.0);
    let centre = scale * (at as f32 + 0.5);
    let reach = 2.0 * stretch;
    let first = (centre - reach + 0.5).max(0.0) as usize;
    let end = ((centre + reach + 0.5) as usize).min(old);
    let factor = |position: usize| cubic((position as f32 - centre + 0.5) / stretch, SLOPE);
    let sum: f32 = (first..end).map(factor).sum();
    (0..old).map(|position| if (first..end).contains(&position) { factor(position) / sum } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Interpolation; 2] = [Interpolation::Bicubic, Interpolation::BicubicAntialias];

    fn matrix(how: Interpolation, old: usize, new: usize) -> Vec<Vec<f32>> {
        let values: Vec<f32> = how.matrix(old, new, &Device::flex()).into_data().iter::<f32>().collect();
        values.chunks(old).map(<[f32]>::to_vec).collect()
    }

    #[test]
    fn a_grid_of_the_same_side_is_the_same() {
        for how in BOTH {
            for (row, factors) in matrix(how, 5, 5).into_iter().enumerate() {
                let same: Vec<f32> = (0..5).map(|column| if column == row { 1.0 } else { 0.0 }).collect();
                assert_eq!(factors, same, "{how:?}");
            }
        }
    }

    #[test]
    fn a_constant_stays_one() {
        for how in BOTH {
            for (old, new) in [(4, 7), (7, 4), (37, 16), (1, 3), (3, 1)] {
                for factors in matrix(how, old, new) {
                    assert!((factors.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{how:?} {old} {new}: {factors:?}");
                }
            }
        }
    }

    #[test]
    fn rows_and_columns_are_not_exchanged() {
        let table = Tensor::<2>::from_data([[0.0], [1.0], [0.0], [1.0]], &Device::flex());
        for how in BOTH {
            let values: Vec<f32> = how.resample(table.clone(), 2, [3, 2]).into_data().iter::<f32>().collect();
            for row in values.chunks(2) {
                assert!(row[0].abs() < 1e-6 && (row[1] - 1.0).abs() < 1e-6, "{how:?} {values:?}");
            }
        }
    }
}
