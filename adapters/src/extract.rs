//! Extraction: [`Extract`] approximates the difference of two weights by low-rank factors, `D ~ B A` with `B = U
//! sqrt(S)` and `A = sqrt(S) V^T`.

use firebrand_kernels::{distance_to_product, leading_svd};

use crate::initial::principal;
use crate::{LoraFactors, normal, stream};

/// Factors of a difference, with their error.
#[derive(Debug, Clone, PartialEq)]
pub struct Extract {
    /// Factors of scale 1 and the requested rank; zero beyond the largest rank that the weight can have.
    pub factors: LoraFactors,
    /// Frobenius norm of the difference.
    pub difference: f64,
    /// Frobenius norm of what the factors leave out, computed with their values in f32.
    pub error: f64,
}

impl Extract {
    /// The factors of `difference` `[out, in]`, row-major, on the module at `path`. The random start of the
    /// decomposition depends on `seed` and `path`. `None` where the decomposition is not finite.
    pub fn new(difference: &[f32], [out, input]: [usize; 2], rank: usize, seed: u64, path: &str) -> Option<Self> {
        let mut rng = stream(seed, path);
        let found = leading_svd(difference, out, input, rank, &mut || normal(&mut rng) as f32)?;
        let own = found.values.len();
        let LoraFactors { mut a, b } = principal(&found, 1.0);
        a.resize(rank * input, 0.0);
        let padded = |row: &[f32]| row.iter().copied().chain(std::iter::repeat_n(0.0, rank - own)).collect::<Vec<_>>();
        let b: Vec<f32> = b.chunks(own.max(1)).flat_map(padded).collect();
        let error = distance_to_product(difference, &b, &a, rank);
        let size = difference.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        Some(Self { factors: LoraFactors { a, b }, difference: size, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 2] = [80, 60];

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| ((i * i) as f32 * seed).sin()).collect()
    }

    fn product(factors: &LoraFactors, rank: usize) -> Vec<f32> {
        let [out, input] = SHAPE;
        let at = |row: usize, column: usize| -> f32 {
            (0..rank).map(|k| factors.b[row * rank + k] * factors.a[k * input + column]).sum()
        };
        (0..out * input).map(|place| at(place / input, place % input)).collect()
    }

    fn apart(left: &[f32], right: &[f32]) -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(left - right).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn a_difference_of_the_rank_is_held_whole_and_the_error_is_the_true_one() {
        let known = LoraFactors { a: numbers(4 * SHAPE[1], 0.71), b: numbers(SHAPE[0] * 4, 1.37) };
        let difference = product(&known, 4);
        for (rank, most) in [(4, 1e-5), (7, 1e-5), (2, 1.0)] {
            let found = Extract::new(&difference, SHAPE, rank, 1, "q").unwrap();
            let error = apart(&product(&found.factors, rank), &difference);
            assert!(error < most * found.difference, "rank {rank}: {error:e}");
            // Both errors contain the rounding of f32, up to which they agree.
            assert!((found.error - error).abs() < 1e-6 * found.difference, "{} {error}", found.error);
        }
        let best = firebrand_kernels::svd(&difference, SHAPE[0], SHAPE[1]).unwrap().values[2..4].to_vec();
        let best = apart(&best, &[0.0; 2]);
        let found = Extract::new(&difference, SHAPE, 2, 1, "q").unwrap();
        assert!((found.error / best - 1.0).abs() < 1e-3, "{} {best}", found.error);
    }

    #[test]
    fn a_rank_beyond_the_weights_is_filled_with_zeros() {
        let difference = numbers(6, 0.9);
        let found = Extract::new(&difference, [2, 3], 4, 1, "q").unwrap();
        assert_eq!((found.factors.a.len(), found.factors.b.len()), (12, 8));
        assert!(found.factors.a[6..].iter().all(|value| *value == 0.0));
        assert!(found.error < 1e-6);
    }
}
