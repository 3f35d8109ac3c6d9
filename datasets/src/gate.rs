//! The data gate: it checks all rows before the first step, for mistakes that training would hide. Its result is a
//! [`Report`].
//!
//! Each check counts rows and shows the first of them by file and line. Errors stop a run, warnings are only listed.
//! Which of the two a finding is follows from [`GateConfig`] and from how certain it is that the run would go wrong.

mod checks;
mod findings;
mod pictures;
mod report;

pub use report::{Check, Finding, Report};

use crate::config::GateConfig;
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::tokenizer::Tokenizer;

impl Report {
    /// Checks the splits of a run. `tokenizer` is the one they were encoded with.
    ///
    /// # Errors
    /// Prepared rows that cannot be read again.
    pub fn new(
        train: Option<&Dataset>,
        eval: Option<&Dataset>,
        tokenizer: Option<&Tokenizer>,
        config: &GateConfig,
    ) -> Result<Self, DataError> {
        let mut report = Self::default();
        for dataset in [train, eval].into_iter().flatten() {
            checks::look(&mut report, dataset, tokenizer, config)?;
        }
        if let (Some(train), Some(eval)) = (train, eval) {
            checks::compare(&mut report, train, eval, config);
        }
        Ok(report)
    }

    /// Returns the report if nothing in it forbids training.
    ///
    /// # Errors
    /// When the report holds an error; the error returned holds the report.
    pub fn pass(self) -> Result<Self, DataError> {
        match self.errors.is_empty() {
            true => Ok(self),
            false => Err(DataError::Gate(Box::new(self))),
        }
    }
}

#[cfg(test)]
mod tests;
