//! The findings about a split: [`Findings`] adds them to the report, and [`Tally`] counts the rows of one.

use super::report::{Check, Finding, Report};
use crate::dataset::Dataset;
use crate::location::Location;

/// Number of rows shown with each finding.
pub(super) const SHOWN: usize = 3;

/// The rows that have a finding: their number and the first of them.
#[derive(Default)]
pub(super) struct Tally {
    /// How many.
    pub count: usize,
    /// The first of them, by the numbers of their examples.
    pub first: Vec<usize>,
}

impl Tally {
    /// Counts a row, if one of its examples has the finding; `example` is the first that has it.
    pub fn add(&mut self, example: Option<usize>) {
        if let Some(example) = example {
            self.count += 1;
            if self.first.len() < SHOWN {
                self.first.push(example);
            }
        }
    }
}

/// Collects the findings about one split.
pub(super) struct Findings<'a> {
    /// Where they are added.
    pub report: &'a mut Report,
    /// The split.
    pub dataset: &'a Dataset,
    /// Number of rows of the split, its pairs and split texts counted once.
    pub rows: usize,
}

impl Findings<'_> {
    fn finding(&self, check: Check, message: impl Into<String>, (count, examples): (usize, Vec<Location>)) -> Finding {
        let dataset = self.dataset;
        let of = self.rows + dataset.dropped().len() + dataset.broken().count + dataset.left_empty().0;
        Finding { check, split: dataset.split, count, of, message: message.into(), examples }
    }

    fn places(&self, rows: &Tally) -> (usize, Vec<Location>) {
        (rows.count, rows.first.iter().map(|example| self.dataset.location(*example)).collect())
    }

    pub fn error(&mut self, check: Check, message: impl Into<String>, rows: &Tally) {
        let finding = self.finding(check, message, self.places(rows));
        self.report.errors.push(finding);
    }

    pub fn warning(&mut self, check: Check, message: impl Into<String>, rows: &Tally) {
        if rows.count > 0 {
            let finding = self.finding(check, message, self.places(rows));
            self.report.warnings.push(finding);
        }
    }

    /// Reports an error if the share of rows is above the limit, a warning below it.
    pub fn limited(&mut self, check: Check, message: &str, rows: &Tally, limit: (&str, f64)) {
        self.limited_at(check, message, self.places(rows), limit);
    }

    pub fn limited_at(&mut self, check: Check, message: &str, rows: (usize, Vec<Location>), (key, limit): (&str, f64)) {
        let mut finding = self.finding(check, message, rows);
        if finding.count as f64 / finding.of.max(1) as f64 > limit {
            finding.message = format!("{message}; data.gate.{key} = {limit} allows fewer");
            self.report.errors.push(finding);
        } else if finding.count > 0 {
            self.report.warnings.push(finding);
        }
    }
}
