//! The data gate: what is looked at before the first step, because training would hide it.
//!
//! Each check counts rows and shows the first ones by file and line. Errors stop a run, warnings are listed; which is
//! which follows from [`GateConfig`] and from how surely the run would be wrong.

mod checks;
mod report;

pub use report::{Check, Finding, Report};

use crate::config::GateConfig;
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::tokenizer::Tokenizer;

impl Report {
    /// Looks at the splits of a run. `tokenizer` is the one they were encoded with.
    pub fn new(
        train: Option<&Dataset>,
        eval: Option<&Dataset>,
        tokenizer: Option<&Tokenizer>,
        config: &GateConfig,
    ) -> Self {
        let mut report = Self::default();
        for dataset in [train, eval].into_iter().flatten() {
            checks::look(&mut report, dataset, tokenizer, config);
        }
        if let (Some(train), Some(eval)) = (train, eval) {
            checks::compare(&mut report, train, eval, config);
        }
        report
    }

    /// The report, when nothing in it forbids training.
    ///
    /// # Errors
    /// When there is an error in it; the error holds the report.
    pub fn pass(self) -> Result<Self, DataError> {
        match self.errors.is_empty() {
            true => Ok(self),
            false => Err(DataError::Gate(Box::new(self))),
        }
    }
}

#[cfg(test)]
mod tests;
