//! Runs a training loop inside burn-train, so that burn-train's metrics, event store, renderer
//! and interrupter serve it.
//!
//! burn-train counts in epochs over a data loader and takes optimiser and schedule into its own
//! hands. firebrand counts in optimiser steps with exact accumulation and resume. The seam is
//! `SupervisedLearningStrategy`: ours calls the loop, a plain function, with an
//! [`Observer`] that turns its reports into burn-train events. Model, optimiser
//! and data stay in the loop; what burn-train's types insist on is an empty carrier.
//!
//! A report travels whole through the metric "Progress" as the JSON line that `metrics.jsonl`
//! will hold, so nothing on the way can average or round it. burn-train's own checkpoints,
//! metric files and `experiment.log` are off: the output folder holds what its contract names.

mod carrier;
mod forward;
mod logger;
mod metrics;
mod strategy;

pub(crate) use metrics::record_id;

use crate::observer::Observer;
use crate::run::{MetricsFile, RunError, TensorBoard};
use crate::ui::{Console, StopRequest, Ui};
use burn_train::renderer::MetricsRenderer;
use burn_train::{Interrupter, SupervisedTraining, TrainingStrategy};
use carrier::{Carrier, NoBatches};
use logger::{ErrorSlot, RecordLogger};
use metrics::{NumberMetric, RecordMetric};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use strategy::{LoopStrategy, Surroundings};

/// What surrounds a training loop.
pub struct Session {
    /// How it is shown.
    pub ui: Ui,
    /// The name of the run in the dashboard.
    pub label: String,
    /// Optimiser steps of the whole run.
    pub total_steps: u64,
    /// Steps between two logged ones; see [`crate::observer::Record::is_logged`].
    pub log_every: u64,
    /// Where the metrics go.
    pub metrics: Option<MetricsFile>,
    /// Where TensorBoard's events go.
    pub tensorboard: Option<TensorBoard>,
    /// Asked after every step, together with the dashboard's own stop.
    pub stop: StopRequest,
}

/// Runs `train` and shows and logs what it reports. Returns what it returns.
///
/// # Errors
/// Those of `train`; and when a report could not be logged, which `train` gets from its observer
/// at the next report.
pub fn observe<T, E, F>(session: Session, train: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<RunError> + Send + 'static,
    F: FnOnce(&mut dyn Observer) -> Result<T, E> + Send + 'static,
{
    let interrupter = Interrupter::new();
    let (renderer, console) = session.ui.open(&interrupter, session.log_every);
    observe_on(session, interrupter, renderer, console, train)
}

fn observe_on<T, E, F>(
    session: Session,
    interrupter: Interrupter,
    renderer: Box<dyn MetricsRenderer>,
    console: Console,
    train: F,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<RunError> + Send + 'static,
    F: FnOnce(&mut dyn Observer) -> Result<T, E> + Send + 'static,
{
    let errors = ErrorSlot::default();
    let outcome = Arc::new(Mutex::new(None));
    let metrics_handle = match &session.metrics {
        Some(metrics) => Some(Arc::new(metrics.try_clone()?)),
        None => None,
    };
    let surroundings = Surroundings {
        errors: errors.clone(),
        stop: session.stop,
        console: console.clone(),
        metrics: metrics_handle,
        total_steps: session.total_steps,
    };
    let kept = outcome.clone();
    let strategy = LoopStrategy::new(surroundings, move |observer: &mut dyn Observer| {
        let result = train(observer);
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    // The folder is named for burn-train's own files only, all of which are off.
    let mut training = SupervisedTraining::<Carrier>::new(Path::new(""), Arc::new(NoBatches), Arc::new(NoBatches))
        .num_epochs(1)
        .label(&session.label)
        .with_application_logger(None)
        .with_interrupter(interrupter)
        .renderer(renderer)
        .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)))
        // Without a logger burn-train would register one that writes files.
        .with_metric_logger(RecordLogger::new((), session.log_every, errors.clone()))
        .metric_train(RecordMetric)
        .metric_valid(RecordMetric);
    for metric in NumberMetric::of_training() {
        training = training.metric_train_numeric(metric);
    }
    for metric in NumberMetric::of_evaluation() {
        training = training.metric_valid_numeric(metric);
    }
    if let Some(metrics) = session.metrics {
        let logger = RecordLogger::new(metrics, session.log_every, errors.clone());
        training = training.with_metric_logger(logger);
    }
    if let Some(tensorboard) = session.tensorboard {
        let logger = RecordLogger::new(tensorboard, session.log_every, errors.clone());
        training = training.with_metric_logger(logger);
    }
    // Dropping the result gives the screen back, and by then all logs are written.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        drop(training.launch(Carrier::learner()));
    }));
    console.release();
    if let Err(panic) = ran {
        if is_kill(&*panic) {
            return Err(RunError::Killed.into());
        }
        resume_unwind(panic);
    }
    let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (outcome, errors.take()) {
        (Some(Ok(_)), Some(error)) => Err(error.into()),
        (Some(result), _) => result,
        (None, error) => {
            Err(error.unwrap_or_else(|| RunError::Report("the training loop did not run".to_string())).into())
        }
    }
}

/// burn-train's dashboard ends a run "immediately" by a panic with this message.
fn is_kill(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<&str>().is_some_and(|message| message.starts_with("Killing training"))
}

#[cfg(test)]
mod tests;
