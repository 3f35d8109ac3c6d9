//! `LoopStrategy`: the `SupervisedLearningStrategy` whose `fit` calls our training loop.

use super::carrier::Carrier;
use super::forward::{Forward, StopWatcher, Surroundings};
use crate::observer::Observer;
use burn_train::{
    Learner, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents, ValidLoader,
};
use std::sync::{Mutex, PoisonError};

type Loop = Box<dyn FnOnce(&mut dyn Observer) + Send>;

/// Calls the loop it was created with, once.
pub(super) struct LoopStrategy {
    run: Mutex<Option<(Loop, Surroundings)>>,
}

impl LoopStrategy {
    pub(super) fn new(surroundings: Surroundings, run: impl FnOnce(&mut dyn Observer) + Send + 'static) -> Self {
        Self { run: Mutex::new(Some((Box::new(run), surroundings))) }
    }
}

impl SupervisedLearningStrategy<Carrier> for LoopStrategy {
    fn fit(
        &self,
        components: TrainingComponents<Carrier>,
        learner: Learner<Carrier>,
        _train: TrainLoader<Carrier>,
        _valid: ValidLoader<Carrier>,
        _starting_epoch: usize,
    ) -> (Carrier, SupervisedTrainingEventProcessor<Carrier>) {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((run, surroundings)) = run else { return (learner.model(), components.event_processor) };
        let watcher = StopWatcher::start(&surroundings);
        let mut observer = Forward::new(components.event_processor, components.interrupter, surroundings);
        run(&mut observer);
        drop(watcher);
        (learner.model(), observer.finish())
    }
}
