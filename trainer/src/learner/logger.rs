//! burn-train's `MetricLogger` over everything that takes whole records.

use super::metrics::record_id;
use crate::observer::Record;
use crate::run::{MetricsFile, RunError, TensorBoard};
use burn_train::logger::MetricLogger;
use burn_train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn_train::metric::{MetricDefinition, NumericEntry};
use std::sync::{Arc, Mutex, PoisonError};

/// The first error of the threads that log, on its way to the loop.
#[derive(Clone, Default)]
pub(super) struct ErrorSlot {
    first: Arc<Mutex<Option<RunError>>>,
}

impl ErrorSlot {
    pub(super) fn put(&self, error: RunError) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    pub(super) fn take(&self) -> Option<RunError> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Takes records.
pub(super) trait RecordSink: Send {
    fn write(&mut self, record: &Record) -> Result<(), RunError>;
}

impl RecordSink for MetricsFile {
    fn write(&mut self, record: &Record) -> Result<(), RunError> {
        MetricsFile::write(self, record)
    }
}

impl RecordSink for TensorBoard {
    fn write(&mut self, record: &Record) -> Result<(), RunError> {
        TensorBoard::write(self, record)
    }
}

/// Takes them nowhere.
impl RecordSink for () {
    fn write(&mut self, _record: &Record) -> Result<(), RunError> {
        Ok(())
    }
}

/// Writes every logged record into a sink. After a failure it writes nothing more, because what
/// follows half a line would be damaged, too.
pub(super) struct RecordLogger<S> {
    sink: Option<S>,
    log_every: u64,
    errors: ErrorSlot,
}

impl<S: RecordSink> RecordLogger<S> {
    pub(super) fn new(sink: S, log_every: u64, errors: ErrorSlot) -> Self {
        Self { sink: Some(sink), log_every, errors }
    }
}

impl<S: RecordSink> MetricLogger for RecordLogger<S> {
    fn log(&mut self, update: MetricsUpdate, _epoch: usize, _split: &Split) {
        let id = record_id();
        let record = update
            .entries
            .iter()
            .find(|entry| entry.metric_id == id)
            .and_then(|entry| Record::from_line(&entry.serialized_entry.serialized))
            .filter(|record| record.is_logged(self.log_every));
        if let (Some(record), Some(sink)) = (record, &mut self.sink)
            && let Err(error) = sink.write(&record)
        {
            self.errors.put(error);
            self.sink = None;
        }
    }

    /// burn-train's early stopping and checkpoint strategies read metrics back; ours do not.
    fn read_numeric(&mut self, _name: &str, _epoch: usize, _split: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _definition: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}
