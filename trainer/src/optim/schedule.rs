//! Learning-rate schedules, [`Curve::factor`]: the `get_*_schedule_with_warmup` of transformers (`optimization.py`),
//! step by step.

use crate::recipe::Curve;

impl Curve {
    /// The factor on the learning rate at the optimiser step with index `step` (0 for the first) of `total`, of which
    /// the first `warmup` are warm-up.
    ///
    /// With warm-up the factor of the first step is 0, as in the reference.
    pub fn factor(self, step: u64, warmup: u64, total: u64) -> f64 {
        if step < warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        let cosine = || 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        match self {
            Self::Constant => 1.0,
            Self::Linear => (total.saturating_sub(step) as f64 / total.saturating_sub(warmup).max(1) as f64).max(0.0),
            Self::Cosine => cosine().max(0.0),
            Self::CosineWithMinLr { min_ratio } => (cosine() * (1.0 - min_ratio) + min_ratio).max(0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_rises_from_zero_and_ends_at_one() {
        for curve in [Curve::Constant, Curve::Linear, Curve::Cosine] {
            assert_eq!(curve.factor(0, 4, 20), 0.0);
            assert_eq!(curve.factor(2, 4, 20), 0.5);
            assert_eq!(curve.factor(4, 4, 20), 1.0);
        }
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_full_rate() {
        assert_eq!(Curve::Linear.factor(0, 0, 10), 1.0);
        assert_eq!(Curve::Cosine.factor(0, 0, 10), 1.0);
    }

    #[test]
    fn the_last_factor_is_the_minimum() {
        assert!(Curve::Cosine.factor(10, 0, 10).abs() < 1e-12);
        assert!((Curve::CosineWithMinLr { min_ratio: 0.1 }.factor(10, 0, 10) - 0.1).abs() < 1e-12);
        assert_eq!(Curve::Linear.factor(10, 0, 10), 0.0);
    }
}
