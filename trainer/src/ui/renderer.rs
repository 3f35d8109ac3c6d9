//! burn-train's `MetricsRenderer` for screens that show whole reports.
//!
//! burn-train hands a renderer one metric at a time. A line needs all numbers of a step at once,
//! so the renderer waits for the metric that carries the report and passes over
//! the others.

use super::eta::Eta;
use crate::learner::record_id;
use crate::observer::{EvalReport, Record, StepReport};
use burn_train::LearnerSummary;
use burn_train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn_train::metric::MetricDefinition;
use burn_train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use std::error::Error;

/// Shows reports.
pub(super) trait Screen: Send + Sync {
    /// A step; `eta` is the time remaining.
    fn step(&mut self, report: &StepReport, eta: Option<std::time::Duration>);
    /// An evaluation.
    fn evaluated(&mut self, report: &EvalReport);
    /// The run ended, early or not.
    fn finish(&mut self);
}

/// Adapts a [`Screen`] to burn-train.
pub(super) struct RecordRenderer<S> {
    screen: S,
    eta: Eta,
}

impl<S: Screen> RecordRenderer<S> {
    pub(super) fn new(screen: S) -> Self {
        Self { screen, eta: Eta::default() }
    }

    fn show(&mut self, state: MetricState) {
        let MetricState::Generic(entry) = state else {
            return;
        };
        if entry.metric_id != record_id() {
            return;
        }
        match Record::from_line(&entry.serialized_entry.serialized) {
            Some(Record::Step(report)) => {
                let eta = self.eta.update(&report);
                self.screen.step(&report, eta);
            }
            Some(Record::Eval(report)) => self.screen.evaluated(&report),
            None => {}
        }
    }
}

impl<S: Screen> MetricsRendererTraining for RecordRenderer<S> {
    fn update_train(&mut self, state: MetricState) {
        self.show(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.show(state);
    }

    fn on_train_end(&mut self, _summary: Option<LearnerSummary>) -> Result<(), Box<dyn Error>> {
        self.screen.finish();
        Ok(())
    }
}

// The reports carry the progress, so burn-train's own counting is not shown.
impl<S: Screen> TrainingProgressLogger for RecordRenderer<S> {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}
    fn update_epoch(&mut self, _: usize) {}
    fn start_split(&mut self, _: &str, _: usize) {}
    fn update_split(&mut self, _: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
}

// Only burn-train's `Evaluator` calls these, which firebrand does not use.
impl<S: Screen> EvaluationProgressLogger for RecordRenderer<S> {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl<S: Screen> MetricsRendererEvaluation for RecordRenderer<S> {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl<S: Screen> MetricsRenderer for RecordRenderer<S> {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: MetricDefinition) {}
}
