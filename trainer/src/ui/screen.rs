//! Screens that show whole reports as they come.

use super::eta::Eta;
use crate::observer::{EvalReport, Record, StepReport};
use std::time::Duration;

/// Shows reports.
pub(super) trait Screen: Send {
    /// A step; `eta` is the time remaining.
    fn step(&mut self, report: &StepReport, eta: Option<Duration>);
    /// An evaluation.
    fn evaluated(&mut self, report: &EvalReport);
    /// The run ended, early or not.
    fn finish(&mut self);
}

/// A screen, and how long the run will still take.
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

    /// The run ended, early or not.
    pub(crate) fn finish(&mut self) {
        self.screen.finish();
    }
}
