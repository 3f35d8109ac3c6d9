//! Steps that are only measured: [`Trainer::measure`].

use std::time::Instant;

use super::trainer::Trainer;
use crate::error::Error;

/// A measured step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredStep {
    /// How long it took, from the rows to the changed weights.
    pub seconds: f64,
    /// Tokens that were computed on, padding not counted.
    pub tokens: u64,
}

impl Trainer<'_> {
    /// Takes `steps` steps, of those that are left, and writes nothing.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn measure(mut self, steps: u64, mut progress: impl FnMut()) -> Result<(Self, Vec<MeasuredStep>), Error> {
        let mut measured = vec![];
        while (measured.len() as u64) < steps && self.step() < self.total_steps() {
            let start = Instant::now();
            let report;
            (self, report) = self.train_step()?;
            measured.push(MeasuredStep { seconds: start.elapsed().as_secs_f64(), tokens: report.input_tokens });
            progress();
        }
        Ok((self, measured))
    }
}
