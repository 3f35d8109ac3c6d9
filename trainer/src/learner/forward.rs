//! `Forward`: the observer that passes reports to files and screen and converts them to burn-train events.

use super::carrier::Carrier;
use super::records::Records;
use crate::observer::{EvalReport, Observer, Record, SampleReport, StepReport};
use crate::run::RunError;
use crate::ui::{Console, StopRequest, record_line, verbosity};
use burn::data::dataloader::Progress;
use burn_train::{
    EventProcessorError, EventProcessorTraining, Interrupter, LearnerEvent, SupervisedTrainingEventProcessor,
    TrainingItem,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// burn-train sees the whole run as its first epoch, with one item for each step.
const EPOCH: usize = 1;

/// The outputs and switches that an observer needs beside burn-train's components.
pub(super) struct Surroundings {
    pub(super) records: Records,
    pub(super) stop: StopRequest,
    pub(super) console: Console,
    pub(super) total_steps: u64,
}

pub(super) struct Forward {
    events: SupervisedTrainingEventProcessor<Carrier>,
    interrupter: Interrupter,
    surroundings: Surroundings,
    started: bool,
    /// The newest step and the newest evaluation.
    newest: [Option<Record>; 2],
}

impl Forward {
    pub(super) fn new(
        events: SupervisedTrainingEventProcessor<Carrier>,
        interrupter: Interrupter,
        surroundings: Surroundings,
    ) -> Self {
        Self { events, interrupter, surroundings, started: false, newest: [None, None] }
    }

    /// Ends the display after a run, complete or not.
    pub(super) fn finish(mut self) -> SupervisedTrainingEventProcessor<Carrier> {
        self.surroundings.records.finish();
        // The dashboard takes what it showed with it, so the last numbers are told once more.
        if self.surroundings.console.is_held() {
            for record in self.newest.iter().flatten() {
                self.surroundings.console.note(&record_line(record));
            }
        }
        self.events
    }

    /// Starts a training split. burn-train's screen switches between training and validation when a split starts.
    fn start_training(&mut self) -> Result<(), RunError> {
        self.started = true;
        let sent = self.events.process_train(self.start_split());
        self.check(sent)
    }

    fn start_split<T>(&self) -> LearnerEvent<T> {
        LearnerEvent::StartSplit { epoch_number: EPOCH, total_items: count(self.surroundings.total_steps) }
    }

    fn item<T>(&self, item: T, step: u64, total_steps: u64) -> LearnerEvent<T> {
        let progress = Progress::new(count(step), count(total_steps), Some("steps".to_string()));
        LearnerEvent::ProcessedItem(TrainingItem::new(item, progress, Some(count(step)), None))
    }

    /// burn-train processes events on other threads. Their errors are returned by a later call.
    fn check(&self, sent: Result<(), EventProcessorError>) -> Result<(), RunError> {
        sent.map_err(|error| RunError::Report(error.to_string()))?;
        match self.interrupter.error() {
            Some(error) => Err(RunError::Report(error.to_string())),
            None => Ok(()),
        }
    }
}

impl Observer for Forward {
    fn step(&mut self, report: &StepReport) -> Result<(), RunError> {
        let record = Record::Step(report.clone());
        self.surroundings.records.take(&record)?;
        self.newest[0] = Some(record);
        if !self.started {
            self.start_training()?;
        }
        let event = self.item(report.clone(), report.step, report.total_steps);
        let sent = self.events.process_train(event);
        self.check(sent)
    }

    fn evaluating(&mut self, done: u64, total: u64) {
        self.surroundings.console.evaluating(done, total);
    }

    fn evaluated(&mut self, report: &EvalReport) -> Result<(), RunError> {
        let record = Record::Eval(report.clone());
        self.surroundings.records.take(&record)?;
        self.newest[1] = Some(record);
        let sent = self.events.process_valid(self.start_split());
        self.check(sent)?;
        let event = self.item(report.clone(), report.step, self.surroundings.total_steps);
        let sent = self.events.process_valid(event);
        self.check(sent)?;
        self.start_training()
    }

    /// Answers before the first step are shown at the end, beside those after the last one.
    fn sampled(&mut self, report: &SampleReport) -> Result<(), RunError> {
        if report.step > 0 && !verbosity::is_quiet() {
            for answer in &report.answers {
                let text = answer.text.replace('\n', "\n          ");
                self.surroundings.console.note(&format!("step {}  {}\n          {text}", report.step, answer.prompt));
            }
        }
        self.surroundings.records.sampled(report)
    }

    fn note(&mut self, text: &str) {
        if !verbosity::is_quiet() {
            self.surroundings.console.note(text);
        }
    }

    fn flush(&mut self) -> Result<(), RunError> {
        self.surroundings.records.sync()
    }

    fn stop_requested(&self) -> bool {
        self.surroundings.stop.is_requested() || self.interrupter.should_stop()
    }
}

/// Prints a note as soon as a stop is requested, although the current step may take a while.
pub(super) struct StopWatcher {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StopWatcher {
    pub(super) fn start(surroundings: &Surroundings) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, console) = (surroundings.stop.clone(), surroundings.console.clone());
        let until = ended.clone();
        let watch = move || {
            while !until.load(Ordering::SeqCst) {
                if stop.is_requested() {
                    console.note("stopping after this step and its checkpoint; once more stops at once");
                    return;
                }
                thread::park_timeout(Duration::from_millis(100));
            }
        };
        // If the thread cannot start, only the note is missing.
        let thread = thread::Builder::new().name("stop-watcher".to_string()).spawn(watch).ok();
        Self { ended, thread }
    }
}

impl Drop for StopWatcher {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic in it does not concern the training run.
            let _ = thread.join();
        }
    }
}

fn count(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
