//! The learning-rate range test (Smith 2017, arXiv:1506.01186): a few steps of training at rates that grow from step to step, and the
//! losses that they give.
//!
//! The rate grows exponentially, as in fastai's `lr_find`. Losses are smoothed by a bias-corrected moving average. Training ends when
//! the smoothed loss is four times its lowest value, or when a number is not finite. Where the loss falls fastest, by the logarithm of
//! the rate, a rate serves well; where it is lowest, it is too high already.

use super::rate_sweep::RateSweep;
use super::trainer::Trainer;
use crate::error::Error;

/// How much of the smoothed loss each step keeps.
const KEPT: f64 = 0.9;
/// The multiple of the lowest smoothed loss at which the test ends.
const DIVERGED: f64 = 4.0;
/// Steps on either side over which a slope is taken.
const REACH: usize = 2;

/// One step of the test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateTrial {
    /// The learning rate of the step.
    pub rate: f64,
    /// The loss before the step.
    pub loss: f64,
    /// The moving average of the losses up to it.
    pub smoothed: f64,
}

/// What the losses say of the rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateAdvice {
    /// The rate at which the smoothed loss falls fastest.
    pub steepest: f64,
    /// The rate at which it is lowest.
    pub lowest: f64,
}

/// The losses of a range test.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RateTest {
    /// The steps, in order.
    pub trials: Vec<RateTrial>,
    /// Whether it ended early, because the loss grew beyond bounds.
    pub diverged: bool,
    average: f64,
}

impl RateTest {
    /// Adds a step. Returns whether the test goes on.
    fn add(&mut self, rate: f64, loss: f64) -> bool {
        self.average = KEPT * self.average + (1.0 - KEPT) * loss;
        let smoothed = self.average / (1.0 - KEPT.powi(self.trials.len() as i32 + 1));
        self.trials.push(RateTrial { rate, loss, smoothed });
        let lowest = self.trials.iter().map(|trial| trial.smoothed).fold(f64::INFINITY, f64::min);
        self.diverged = smoothed > DIVERGED * lowest;
        !self.diverged
    }

    /// A rate to take; `None` if the loss never fell.
    pub fn advice(&self) -> Option<RateAdvice> {
        let smoothed = |index: usize| self.trials[index].smoothed;
        let end = (0..self.trials.len()).min_by(|a, b| smoothed(*a).total_cmp(&smoothed(*b)))?;
        let slope = |index: usize| {
            let (left, right) = (index.saturating_sub(REACH), (index + REACH).min(self.trials.len() - 1));
            let way = (self.trials[right].rate / self.trials[left].rate).ln();
            (smoothed(right) - smoothed(left)) / way
        };
        let steepest = (1..end).min_by(|a, b| slope(*a).total_cmp(&slope(*b)))?;
        let advice = RateAdvice { steepest: self.trials[steepest].rate, lowest: self.trials[end].rate };
        (slope(steepest) < 0.0).then_some(advice)
    }
}

impl Trainer<'_> {
    /// Trains at the rates of `sweep` in place of those of the schedule, and writes nothing. `progress` is called after each step.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn test_rates(mut self, sweep: RateSweep, mut progress: impl FnMut(&RateTrial)) -> Result<RateTest, Error> {
        self.sweep = Some(sweep);
        let mut test = RateTest::default();
        while self.step() < sweep.steps.min(self.total_steps()) {
            let report;
            (self, report) = match self.train_step() {
                Ok(done) => done,
                Err(Error::NotFinite { .. }) => {
                    test.diverged = true;
                    break;
                }
                Err(error) => return Err(error),
            };
            let goes_on = test.add(report.learning_rate, report.loss);
            test.trials.last().into_iter().for_each(&mut progress);
            if !goes_on {
                break;
            }
        }
        Ok(test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_of(losses: impl Fn(f64) -> f64) -> RateTest {
        let sweep = RateSweep { first: 1e-6, last: 1.0, steps: 121 };
        let mut test = RateTest::default();
        (0..121).map(|index| sweep.rate(index)).find(|rate| !test.add(*rate, losses(*rate)));
        test
    }

    /// Flat, then falling around 1e-4, then growing from 1e-2.
    #[test]
    fn the_advice_lies_where_the_loss_falls() {
        let test = test_of(|rate| 3.0 - 1.0 / (1.0 + (1e-4 / rate).powi(2)) + (rate / 1e-2).powi(2));
        let advice = test.advice().unwrap();
        assert!((1e-4..6e-4).contains(&advice.steepest), "{advice:?}");
        assert!((5e-4..1e-2).contains(&advice.lowest), "{advice:?}");
        assert!(test.diverged && test.trials.len() < 121, "growing without end ends the test");
    }

    #[test]
    fn there_is_no_advice_where_the_loss_never_falls() {
        assert_eq!(test_of(|rate| 2.0 + rate).advice(), None);
        assert_eq!(RateTest::default().advice(), None);
    }
}
