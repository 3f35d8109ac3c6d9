//! The gradient noise scale (McCandlish et al. 2018, arXiv:1812.06162, appendix A.1): about the number of rows in a step from which
//! larger steps learn hardly more.
//!
//! Micro-batch `k` has the share `s_k` of the weights of a step, and adds `g_k` to its gradient `G = sum g_k`; alone it would have
//! the gradient `g_k / s_k`. With `n` micro-batches, the true gradient `T` and the variance `V` of a whole step's gradient,
//! ```text
//! E |G|^2               = |T|^2 + V
//! E sum_k |g_k|^2 / s_k = |T|^2 + n V
//! ```
//! which is the paper's pair of equations for batches of any sizes. So `V` and `|T|^2` follow from sums of squares that are there
//! anyway. Both are averaged over steps, as the paper does, because the ratio of single estimates means little. The scale is
//! `rows * V / |T|^2`, in rows (packs) of a step.

use serde::{Deserialize, Serialize};

/// How much of the averages each step keeps.
const KEPT: f64 = 0.95;

/// What the gradients of one step say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoiseSample {
    /// The variance of the gradient of a step of one row.
    pub variance: f64,
    /// The squared norm of the gradient without noise; below zero where noise hides it.
    pub squared_norm: f64,
}

impl NoiseSample {
    /// From the share and the squared norm of each micro-batch, the squared norm of their sum, and the rows of the step. `None` with
    /// fewer than two micro-batches.
    pub fn of(parts: &[(f64, f64)], squared_norm: f64, rows: usize) -> Option<Self> {
        let count = parts.len();
        let apart: f64 = parts.iter().map(|(share, squared)| squared / share).sum();
        let variance = (apart - squared_norm) / (count.max(2) - 1) as f64;
        (count >= 2).then_some(Self { variance: variance * rows as f64, squared_norm: squared_norm - variance })
    }
}

/// The moving averages of [`NoiseSample`]s over steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseAverage {
    variance: f64,
    squared_norm: f64,
}

impl NoiseAverage {
    /// Takes a step in. The average starts at zero, which both parts of the scale forget alike.
    pub fn add(&mut self, sample: NoiseSample) {
        let mean = |average: f64, sample: f64| KEPT * average + (1.0 - KEPT) * sample;
        self.variance = mean(self.variance, sample.variance);
        self.squared_norm = mean(self.squared_norm, sample.squared_norm);
    }

    /// The noise scale in rows; `None` while noise hides the gradient.
    pub fn scale(&self) -> Option<f64> {
        (self.squared_norm > 0.0 && self.variance > 0.0).then(|| self.variance / self.squared_norm)
    }

    /// Whether it can be written down.
    pub fn is_finite(&self) -> bool {
        self.variance.is_finite() && self.squared_norm.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use firebrand_adapters::{normal, stream};

    use super::*;

    /// Rows whose gradients are `truth` and noise of a known variance, in micro-batches of other sizes.
    #[test]
    fn the_scale_of_known_noise_is_found() {
        let (truth, deviation, width) = (0.3, 2.0, 50);
        let mut rng = stream(5, "noise");
        let mut average = NoiseAverage::default();
        let mut mean = (0.0, 0.0);
        const STEPS: usize = 4000;
        for _ in 0..STEPS {
            let sizes = [1, 3, 2, 6];
            let rows: usize = sizes.iter().sum();
            let mut whole = vec![0.0; width];
            let parts: Vec<(f64, f64)> = sizes
                .iter()
                .map(|&size| {
                    let mut part = vec![0.0; width];
                    for _ in 0..size {
                        part.iter_mut().for_each(|sum| *sum += (truth + deviation * normal(&mut rng)) / rows as f64);
                    }
                    whole.iter_mut().zip(&part).for_each(|(sum, value)| *sum += value);
                    (size as f64 / rows as f64, part.iter().map(|value| value * value).sum())
                })
                .collect();
            let squared = whole.iter().map(|value| value * value).sum();
            let sample = NoiseSample::of(&parts, squared, rows).unwrap();
            average.add(sample);
            mean = (mean.0 + sample.variance / STEPS as f64, mean.1 + sample.squared_norm / STEPS as f64);
        }
        let (variance, squared) = (deviation * deviation * width as f64, truth * truth * width as f64);
        // The means are unbiased; the moving average is one of about twenty steps.
        assert!((mean.0 / variance - 1.0).abs() < 0.02, "{} of {variance}", mean.0);
        assert!((mean.1 / squared - 1.0).abs() < 0.05, "{} of {squared}", mean.1);
        let scale = average.scale().unwrap();
        assert!((scale / (variance / squared) - 1.0).abs() < 0.7, "{scale} of {}", variance / squared);
    }

    /// By hand: gradients 3 and 1 of two halves of a step. Their mean is 2; the variance of a half is 2, of the whole 1.
    #[test]
    fn two_halves_by_hand() {
        let sample = NoiseSample::of(&[(0.5, 2.25), (0.5, 0.25)], 4.0, 8).unwrap();
        assert_eq!(sample, NoiseSample { variance: 8.0, squared_norm: 3.0 });
        assert_eq!(NoiseSample::of(&[(1.0, 4.0)], 4.0, 8), None);
    }
}
