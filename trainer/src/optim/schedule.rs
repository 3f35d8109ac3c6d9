//! Learning-rate schedules, [`Curve::factor`]: those of transformers (`optimization.py`: `get_*_schedule_with_warmup`,
//! `get_inverse_sqrt_schedule`, `get_wsd_schedule`), step by step.

use std::f64::consts::PI;

use crate::recipe::{Curve, Ramp, WarmupStableDecay};

impl Curve {
    /// The factor on the learning rate at the optimiser step with index `step` (0 for the first) of `total`, of which
    /// the first `warmup` are warm-up. `highest` is the learning rate that the factor scales.
    ///
    /// With warm-up the factor of the first step is 0, as in the reference; under `WarmupStableDecay` it is `min_ratio`.
    pub fn factor(self, step: u64, warmup: u64, total: u64, highest: f64) -> f64 {
        let progress = step.saturating_sub(warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        let cosine = |progress: f64| 0.5 * (1.0 + (PI * progress).cos());
        match self {
            Self::WarmupStableDecay(curve) => curve.factor(step, warmup, total),
            _ if step < warmup => step as f64 / warmup as f64,
            Self::Constant => 1.0,
            Self::Linear => (total.saturating_sub(step) as f64 / total.saturating_sub(warmup).max(1) as f64).max(0.0),
            Self::Cosine => cosine(progress).max(0.0),
            Self::CosineWithMinLr { min_ratio } => (cosine(progress) * (1.0 - min_ratio) + min_ratio).max(0.0),
            Self::CosineWithRestarts { .. } if progress >= 1.0 => 0.0,
            Self::CosineWithRestarts { cycles } => cosine((cycles as f64 * progress) % 1.0).max(0.0),
            Self::Polynomial { lr_end, .. } if step >= total => lr_end / highest,
            Self::Polynomial { power, lr_end } => {
                ((highest - lr_end) * (1.0 - progress).powf(power) + lr_end) / highest
            }
            Self::InverseSqrt { timescale } => {
                let timescale = timescale.steps(warmup);
                1.0 / ((step - warmup + timescale) as f64 / timescale as f64).sqrt()
            }
        }
    }
}

impl WarmupStableDecay {
    /// As [`Curve::factor`]. A decay that is longer than what the warm-up leaves is joined where it is by then, as in
    /// the reference.
    fn factor(self, step: u64, warmup: u64, total: u64) -> f64 {
        let above_least = |factor: f64| (factor * (1.0 - self.min_ratio) + self.min_ratio).max(0.0);
        if step < warmup {
            return above_least(self.warmup_type.rise(step as f64 / warmup as f64));
        }
        let decay = self.decay.steps(total, warmup);
        match (step + decay).checked_sub(total) {
            _ if step >= total => self.min_ratio,
            // The step at which the decay begins belongs to it.
            Some(done) => above_least(self.decay_type.fall(done as f64 / decay.max(1) as f64)),
            None => 1.0,
        }
    }
}

impl Ramp {
    /// From 0 to 1.
    fn rise(self, progress: f64) -> f64 {
        match self {
            Self::Linear => progress,
            Self::Cosine => 0.5 * (1.0 - (PI * progress).cos()),
            Self::OneMinusSqrt => 1.0 - (1.0 - progress).sqrt(),
        }
    }

    /// From 1 to 0.
    fn fall(self, progress: f64) -> f64 {
        match self {
            Self::Linear => 1.0 - progress,
            Self::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            Self::OneMinusSqrt => 1.0 - progress.sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Decay, Timescale};

    const ALL: [Curve; 8] = [
        Curve::Constant,
        Curve::Linear,
        Curve::Cosine,
        Curve::CosineWithMinLr { min_ratio: 0.1 },
        Curve::CosineWithRestarts { cycles: 3 },
        Curve::Polynomial { power: 2.0, lr_end: 1e-7 },
        Curve::InverseSqrt { timescale: Timescale::OfWarmup },
        Curve::WarmupStableDecay(WarmupStableDecay {
            decay: Decay::Ratio(0.25),
            decay_type: Ramp::OneMinusSqrt,
            warmup_type: Ramp::Linear,
            min_ratio: 0.0,
        }),
    ];

    #[test]
    fn warm_up_rises_from_zero_and_ends_at_one() {
        for curve in ALL {
            assert_eq!(curve.factor(0, 4, 20, 1e-3), 0.0, "{curve:?}");
            assert_eq!(curve.factor(2, 4, 20, 1e-3), 0.5, "{curve:?}");
            assert_eq!(curve.factor(4, 4, 20, 1e-3), 1.0, "{curve:?}");
        }
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_full_rate() {
        for curve in ALL {
            assert_eq!(curve.factor(0, 0, 10, 1e-3), 1.0, "{curve:?}");
        }
    }

    #[test]
    fn the_last_factor_is_the_minimum() {
        assert!(Curve::Cosine.factor(10, 0, 10, 1e-3).abs() < 1e-12);
        assert!((Curve::CosineWithMinLr { min_ratio: 0.1 }.factor(10, 0, 10, 1e-3) - 0.1).abs() < 1e-12);
        assert_eq!(Curve::Linear.factor(10, 0, 10, 1e-3), 0.0);
        assert_eq!(Curve::CosineWithRestarts { cycles: 2 }.factor(10, 0, 10, 1e-3), 0.0);
        assert_eq!(Curve::Polynomial { power: 2.0, lr_end: 1e-4 }.factor(10, 0, 10, 1e-3), 0.1);
    }

    /// Runs that are shorter than their warm-up, and steps after the last one.
    #[test]
    fn every_factor_is_a_share_of_the_highest_rate() {
        for curve in ALL {
            for total in 0..6 {
                for warmup in 0..8 {
                    for step in 0..12 {
                        let factor = curve.factor(step, warmup, total, 1e-3);
                        assert!((0.0..=1.0).contains(&factor), "{curve:?}: {factor} at {step}, {warmup} of {total}");
                    }
                }
            }
        }
    }
}
