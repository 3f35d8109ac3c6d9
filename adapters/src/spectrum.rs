//! [`Spectrum`]: how much a low-rank adapter changes its weight, and in how many directions.
//!
//! The singular values of `s B A` are those of `R_B R_A^T`, a matrix of the rank's size, where `R_A` and `R_B` come
//! from the QR decompositions of the factors. The dense product is never computed.

use firebrand_kernels::low_rank_svd;

use crate::LoraFactors;

/// Norms and singular values of one module's change. Norms are Frobenius norms.
#[derive(Debug, Clone, PartialEq)]
pub struct Spectrum {
    /// Norm of `A`.
    pub a: f64,
    /// Norm of `B`.
    pub b: f64,
    /// Singular values of `s B A`, in descending order; `min(rank, in, out)` of them.
    pub values: Vec<f64>,
}

impl Spectrum {
    /// The spectrum of factors laid out as in files. `None` where a value, or the product, is not finite.
    pub fn new(factors: &LoraFactors, rank: usize, scale: f64) -> Option<Self> {
        let found = low_rank_svd(&factors.b, &factors.a, rank)?;
        let values = found.values.iter().map(|value| f64::from(*value) * scale).collect();
        Some(Self { a: norm(&factors.a), b: norm(&factors.b), values })
    }

    /// Norm of `s B A`.
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|value| value * value).sum::<f64>().sqrt()
    }

    /// `exp` of the entropy of the normalised singular values (Roy and Vetterli 2007, "The effective rank"): between 1
    /// (one direction) and the rank (all directions equal); 0 where there is no change.
    pub fn effective_rank(&self) -> f64 {
        let sum: f64 = self.values.iter().sum();
        if sum <= 0.0 {
            return 0.0;
        }
        let shares = self.values.iter().map(|value| value / sum).filter(|share| *share > 0.0);
        shares.map(|share| -share * share.ln()).sum::<f64>().exp()
    }

    /// Whether nothing is changed: a factor is zero, or the product is, up to the rounding of a start that is
    /// subtracted.
    pub fn is_zero(&self, scale: f64) -> bool {
        self.norm() <= 1e-10 * scale * self.a * self.b
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| ((i * i) as f32 * seed).sin()).collect()
    }

    #[test]
    fn sizes_are_those_of_the_dense_product() {
        let (rank, [out, input], scale) = (3, [7, 5], 1.5);
        let factors = LoraFactors { a: numbers(rank * input, 0.7), b: numbers(out * rank, 1.3) };
        let at = |place: usize| -> f32 {
            let (row, column) = (place / input, place % input);
            (0..rank).map(|k| 1.5 * factors.b[row * rank + k] * factors.a[k * input + column]).sum()
        };
        let dense: Vec<f32> = (0..out * input).map(at).collect();
        let found = Spectrum::new(&factors, rank, scale).unwrap();
        let expected = firebrand_kernels::svd(&dense, out, input).unwrap().values;
        for (found, expected) in found.values.iter().zip(&expected) {
            assert!((found - f64::from(*expected)).abs() < 1e-5, "{found} {expected}");
        }
        assert_eq!(found.values.len(), rank);
        assert!((found.norm() - norm(&dense)).abs() < 1e-5);
        assert!((found.a - norm(&factors.a)).abs() < 1e-9 && (found.b - norm(&factors.b)).abs() < 1e-9);
        assert!(!found.is_zero(scale));
    }

    #[test]
    fn the_effective_rank_counts_directions_by_their_size() {
        let of = |values: &[f64]| Spectrum { a: 1.0, b: 1.0, values: values.to_vec() }.effective_rank();
        assert!((of(&[2.0, 2.0, 2.0]) - 3.0).abs() < 1e-12);
        assert!((of(&[5.0, 0.0, 0.0]) - 1.0).abs() < 1e-12);
        // -(3/4 ln 3/4 + 1/4 ln 1/4) = 0.5623...
        assert!((of(&[3.0, 1.0]) - 0.562_335_144_618_808_f64.exp()).abs() < 1e-12);
        assert_eq!(of(&[0.0, 0.0]), 0.0);
    }

    #[test]
    fn an_adapter_that_was_never_trained_is_zero_however_it_started() {
        let (a, b) = (numbers(8, 0.3), numbers(6, 0.4));
        let fresh = LoraFactors { a: a.clone(), b: vec![0.0; 6] };
        assert!(Spectrum::new(&fresh, 2, 1.0).unwrap().is_zero(1.0));
        let subtracted = LoraFactors { a: a.clone(), b: b.clone() };
        let opposite = LoraFactors { a: a.clone(), b: b.iter().map(|value| -value).collect() };
        let both = Spectrum::new(&subtracted.concatenated(&opposite, 2, 2), 4, 0.5).unwrap();
        assert!(both.is_zero(0.5), "{both:?}");
        assert_eq!(Spectrum::new(&LoraFactors { a, b: vec![f32::INFINITY; 6] }, 2, 1.0), None);
    }
}
