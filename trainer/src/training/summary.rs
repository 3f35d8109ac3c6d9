//! What a run was, in a few numbers: [`Summary`].

use std::time::Duration;

use crate::run::{RunState, TrainerState};

/// A run from its first step to now, earlier starts of the program included.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Optimiser steps done.
    pub steps: u64,
    /// Passes over the training data, with the current one as a fraction.
    pub epochs: f64,
    /// Time spent training.
    pub elapsed: Duration,
    /// All tokens that went through the model in training.
    pub input_tokens: u64,
    /// Those that had a label.
    pub labelled_tokens: u64,
    /// First, last and best evaluation; absent: there was none.
    pub evaluations: Option<Evaluations>,
    /// The step whose weights the model has.
    pub weights_of: u64,
    /// Whether they are the moving average at that step.
    pub averaged: bool,
}

/// Evaluations, each by its step and loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluations {
    pub first: (u64, f64),
    pub last: (u64, f64),
    pub best: (u64, f64),
}

impl Summary {
    pub(super) fn new(state: &RunState, history: &TrainerState, weights_of: u64, averaged: bool) -> Self {
        let losses: Vec<(u64, f64)> = history
            .log_history
            .iter()
            .filter_map(|entry| Some((entry.get("step")?.as_u64()?, entry.get("eval_loss")?.as_f64()?)))
            .collect();
        let evaluations = losses.first().zip(losses.last()).map(|(first, last)| {
            let lowest = losses.iter().fold(*first, |lowest, one| if one.1 < lowest.1 { *one } else { lowest });
            // An evaluation before the first step is not ranked, and early stopping may want a margin.
            let best = state.best.map_or(lowest, |best| (best.step, best.value));
            Evaluations { first: *first, last: *last, best }
        });
        Self {
            steps: state.step,
            epochs: history.epoch,
            elapsed: Duration::try_from_secs_f64(state.elapsed_seconds).unwrap_or_default(),
            input_tokens: state.input_tokens,
            labelled_tokens: state.tokens,
            evaluations,
            weights_of,
            averaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::tests::eval_report;
    use crate::run::Best;

    #[test]
    fn the_first_the_last_and_the_best_evaluation_are_told() {
        let mut history = TrainerState { epoch: 1.5, ..TrainerState::default() };
        let state = RunState { step: 9, tokens: 5, input_tokens: 8, ..RunState::default() };
        assert_eq!(Summary::new(&state, &history, 9, false).evaluations, None);
        for (step, loss) in [(0, 0.1), (3, 2.0), (6, 1.0), (9, 1.5)] {
            history.log_evaluation(&crate::observer::EvalReport { loss, ..eval_report(step) });
        }
        let state = RunState { best: Some(Best { value: 1.0, step: 6 }), ..state };
        let summary = Summary::new(&state, &history, 6, true);
        let expected = Evaluations { first: (0, 0.1), last: (9, 1.5), best: (6, 1.0) };
        assert_eq!(summary.evaluations, Some(expected));
        assert_eq!((summary.steps, summary.epochs, summary.input_tokens, summary.weights_of), (9, 1.5, 8, 6));
        assert!(summary.averaged);
    }
}
