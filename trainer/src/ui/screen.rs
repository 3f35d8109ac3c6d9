//! `Screen`, the trait of displays that show whole reports, and `Reports`, which feeds one.

use super::eta::Eta;
use crate::observer::{EvalReport, Record, StepReport};
use std::time::Duration;

/// Displays reports.
pub(super) trait Screen: Send {
    /// Shows a step; `eta` is the remaining time.
    fn step(&mut self, report: &StepReport, eta: Option<Duration>);
    /// Shows an evaluation.
    fn evaluated(&mut self, report: &EvalReport);
    /// Ends the display after a run, complete or not.
    fn finish(&mut self);
}

/// A screen with an estimate of the remaining time.
pub(crate) struct Reports {
    screen: Box<dyn Screen>,
    eta: Eta,
}

impl Reports {
    pub(super) fn on(screen: impl Screen + 'static) -> Self {
        Self { screen: Box::new(screen), eta: Eta::default() }
    }

    /// Shows a record.
    pub(crate) fn show(&mut self, record: &Record) {
        match record {
            Record::Step(report) => {
                let eta = self.eta.update(report);
                self.screen.step(report, eta);
            }
            Record::Eval(report) => self.screen.evaluated(report),
        }
    }

    /// Ends the display after a run, complete or not.
    pub(crate) fn finish(&mut self) {
        self.screen.finish();
    }
}
