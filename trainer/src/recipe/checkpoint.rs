//! `[checkpoint]`: how often a run can be resumed from, and which checkpoints stay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often a run can be resumed from, and which checkpoints stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Optimiser steps between checkpoints; there is one after the last step too.
    pub every: usize,
    /// How many of the newest stay on disk.
    pub keep: usize,
    /// Absent = no checkpoint stays for its metric.
    pub best: Option<BestMetric>,
}

/// The keys of `[checkpoint]` as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(description = "How often a run can be resumed from, and which checkpoints stay.")]
pub struct CheckpointSection {
    /// Optimiser steps between checkpoints; there is one after the last step too.
    #[schemars(range(min = 1), example = 10)]
    pub every: usize,
    /// How many of the newest checkpoints stay on disk.
    #[schemars(range(min = 1), example = 1)]
    pub keep: usize,
    /// The checkpoint with the lowest value of this metric stays too, beside the newest. When not given: `eval/loss` where
    /// there is eval data, else `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = BestKey::Off)]
    pub best: Option<BestKey>,
}

/// A metric that ranks checkpoints; lower is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BestMetric {
    EvalLoss,
}

/// The words for `best`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BestKey {
    #[serde(rename = "eval/loss")]
    EvalLoss,
    #[serde(rename = "off")]
    Off,
}

impl CheckpointSection {
    /// `evaluated`: the recipe has eval data, so `eval/loss` exists.
    pub(super) fn resolve(self, evaluated: bool) -> Checkpoint {
        let best = match (self.best, evaluated) {
            (Some(BestKey::EvalLoss), _) | (None, true) => Some(BestMetric::EvalLoss),
            (Some(BestKey::Off), _) | (None, false) => None,
        };
        Checkpoint { every: self.every, keep: self.keep, best }
    }
}

impl From<&Checkpoint> for CheckpointSection {
    fn from(checkpoint: &Checkpoint) -> Self {
        CheckpointSection {
            every: checkpoint.every,
            keep: checkpoint.keep,
            best: Some(match checkpoint.best {
                Some(BestMetric::EvalLoss) => BestKey::EvalLoss,
                None => BestKey::Off,
            }),
        }
    }
}
