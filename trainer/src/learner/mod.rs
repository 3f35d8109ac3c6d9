//! Runs the training loop inside burn-train and shows and logs what the loop reports: [`observe`].
//!
//! burn-train counts epochs over a data loader and owns the optimiser and the schedule. firebrand
//! counts optimiser steps, with exact accumulation and resume. The connection between the two is
//! burn-train's trait `SupervisedLearningStrategy`: our implementation calls the training loop, a
//! plain function, with an [`Observer`]. Model, optimiser and data stay in the loop; what
//! burn-train's types require instead is an empty carrier.
//!
//! A report goes two ways:
//! ```text
//! records.rs      the whole record goes to metrics.jsonl, TensorBoard and a bar or lines, in the call that reports it
//! metrics.rs      its numbers go to the dashboard, as burn-train's events
//! ```
//! burn-train provides the dashboard (its renderer), the metrics and events that feed it, an event
//! store, which is empty here, and the interrupter, by which the dashboard stops a run. It does
//! not provide files, checkpoints, averages, early stopping, the order of what is written, or its
//! errors. Its events are processed on other threads, so they carry only numbers to show and
//! nothing that is kept; its own metric files and `experiment.log` are off.

mod carrier;
mod forward;
mod metrics;
mod records;
mod strategy;

use crate::observer::Observer;
use crate::run::{MetricsFile, RunError, TensorBoard};
use crate::ui::{Display, StopRequest, Ui};
use burn_train::{Interrupter, SupervisedTraining, TrainingStrategy};
use carrier::{Carrier, NoBatches, NoFiles};
use forward::Surroundings;
use metrics::{NumberMetric, ProgressMetric};
use records::Records;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use strategy::LoopStrategy;

/// The outputs of a training loop, and its means to be stopped.
pub struct Session {
    /// How the run is shown.
    pub ui: Ui,
    /// The name of the run in the dashboard.
    pub label: String,
    /// Optimiser steps of the whole run.
    pub total_steps: u64,
    /// Steps between two logged steps; see [`crate::observer::Record::is_logged`].
    pub log_every: u64,
    /// The file of metrics.
    pub metrics: Option<MetricsFile>,
    /// The TensorBoard event file.
    pub tensorboard: Option<TensorBoard>,
    /// Is asked after every step, together with the dashboard's own stop button.
    pub stop: StopRequest,
}

/// Runs `train`, shows and logs what it reports, and returns its result.
///
/// # Errors
/// Those of `train`. A report that could not be logged is an error of the observer, which `train` passes on.
pub fn observe<T, E, F>(session: Session, train: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<RunError> + Send + 'static,
    F: FnOnce(&mut dyn Observer) -> Result<T, E> + Send + 'static,
{
    let interrupter = Interrupter::new();
    let display = session.ui.open(&interrupter, session.log_every);
    observe_on(session, interrupter, display, train)
}

fn observe_on<T, E, F>(session: Session, interrupter: Interrupter, display: Display, train: F) -> Result<T, E>
where
    T: Send + 'static,
    E: From<RunError> + Send + 'static,
    F: FnOnce(&mut dyn Observer) -> Result<T, E> + Send + 'static,
{
    let Display { renderer, console, reports } = display;
    let outcome = Arc::new(Mutex::new(None));
    let records = Records {
        metrics: session.metrics,
        tensorboard: session.tensorboard,
        screen: reports,
        log_every: session.log_every,
    };
    let surroundings =
        Surroundings { records, stop: session.stop, console: console.clone(), total_steps: session.total_steps };
    let kept = outcome.clone();
    let strategy = LoopStrategy::new(surroundings, move |observer: &mut dyn Observer| {
        let result = train(observer);
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    });
    // This folder is used by burn-train's own files only, all of which are off.
    let mut training = SupervisedTraining::<Carrier>::new(Path::new(""), Arc::new(NoBatches), Arc::new(NoBatches))
        .num_epochs(1)
        .label(&session.label)
        .with_application_logger(None)
        .with_interrupter(interrupter)
        .renderer(renderer)
        .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)))
        .with_metric_logger(NoFiles)
        .metric_train(ProgressMetric::default())
        .metric_valid(ProgressMetric::default());
    for metric in NumberMetric::of_training() {
        training = training.metric_train_numeric(metric);
    }
    for metric in NumberMetric::of_evaluation() {
        training = training.metric_valid_numeric(metric);
    }
    // Dropping the result releases the screen.
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
    outcome.unwrap_or_else(|| Err(RunError::Report("the training loop did not run".to_string()).into()))
}

/// Whether a panic is that by which burn-train's dashboard ends a run "immediately".
fn is_kill(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<&str>().is_some_and(|message| message.starts_with("Killing training"))
}

#[cfg(test)]
mod tests;
