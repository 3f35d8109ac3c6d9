//! Writes whole records, in the order of the reports, to `metrics.jsonl`, TensorBoard, and a bar or lines: `Records`.
//!
//! They are written in the call that reports them. So an error belongs to that call, and everything that was reported
//! is on disk when a checkpoint begins.

use crate::observer::{Record, SampleReport};
use crate::run::{MetricsFile, RunError, TensorBoard};
use crate::ui::Reports;

/// The outputs that take whole records.
pub(super) struct Records {
    pub(super) metrics: Option<MetricsFile>,
    pub(super) tensorboard: Option<TensorBoard>,
    /// Absent if burn-train's dashboard is shown, which has its own metrics.
    pub(super) screen: Option<Reports>,
    /// Steps between two written records; see [`Record::is_logged`].
    pub(super) log_every: u64,
}

impl Records {
    /// Shows a record, and writes it if it is due to be logged.
    ///
    /// # Errors
    /// Those of the files. After an error a file gets no more records, because they would follow half a line.
    pub(super) fn take(&mut self, record: &Record) -> Result<(), RunError> {
        if let Some(screen) = &mut self.screen {
            screen.show(record);
        }
        if !record.is_logged(self.log_every) {
            return Ok(());
        }
        let metrics = write(&mut self.metrics, |file| file.write(record));
        let tensorboard = write(&mut self.tensorboard, |board| board.write(record));
        metrics.and(tensorboard)
    }

    /// Writes answers to TensorBoard.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn sampled(&mut self, report: &SampleReport) -> Result<(), RunError> {
        write(&mut self.tensorboard, |board| board.write_samples(report))
    }

    /// Waits until the metrics are on the disk.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn sync(&self) -> Result<(), RunError> {
        self.metrics.as_ref().map_or(Ok(()), MetricsFile::sync)
    }

    /// Ends the display after a run, complete or not.
    pub(super) fn finish(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.finish();
        }
    }
}

fn write<S>(sink: &mut Option<S>, write: impl FnOnce(&mut S) -> Result<(), RunError>) -> Result<(), RunError> {
    let Some(open) = sink else { return Ok(()) };
    let written = write(open);
    if written.is_err() {
        *sink = None;
    }
    written
}
