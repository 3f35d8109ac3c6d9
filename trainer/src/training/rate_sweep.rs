//! Learning rates that grow from step to step, [`RateSweep`].

/// Rates that grow exponentially.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateSweep {
    /// The rate of the first step.
    pub first: f64,
    /// The rate of the last step.
    pub last: f64,
    /// Number of steps.
    pub steps: u64,
}

impl RateSweep {
    /// The rate of the step with index `index`, from 0.
    pub fn rate(&self, index: u64) -> f64 {
        self.first * (self.last / self.first).powf(index as f64 / self.steps.saturating_sub(1).max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_grow_by_one_factor() {
        let sweep = RateSweep { first: 1e-5, last: 1e-1, steps: 5 };
        for (index, rate) in [1e-5, 1e-4, 1e-3, 1e-2, 1e-1].into_iter().enumerate() {
            assert!((sweep.rate(index as u64) / rate - 1.0).abs() < 1e-12);
        }
        assert_eq!(RateSweep { steps: 1, ..sweep }.rate(0), 1e-5);
    }
}
