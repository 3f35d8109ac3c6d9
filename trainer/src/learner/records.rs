//! Where whole records go, in the order in which the loop reports them: `metrics.jsonl`, TensorBoard, a bar or lines.
//!
//! They are written by the call that reports them, so an error is that call's, and nothing that was reported is missing on disk
//! when a checkpoint begins.

use crate::observer::Record;
use crate::run::{MetricsFile, RunError, TensorBoard};
use crate::ui::Reports;

/// What takes records.
pub(super) struct Records {
    pub(super) metrics: Option<MetricsFile>,
    pub(super) tensorboard: Option<TensorBoard>,
    /// Absent where burn-train's dashboard shows its own metrics.
    pub(super) screen: Option<Reports>,
    /// Steps between two that are written; see [`Record::is_logged`].
    pub(super) log_every: u64,
}

impl Records {
    /// Shows a record, and writes it if it is a logged one.
    ///
    /// # Errors
    /// Those of the files. One that failed gets nothing more, because what follows half a line would be damaged, too.
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

    /// Waits until the metrics are on the disk.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn sync(&self) -> Result<(), RunError> {
        self.metrics.as_ref().map_or(Ok(()), MetricsFile::sync)
    }

    /// The run ended, early or not.
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
