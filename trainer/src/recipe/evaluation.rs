//! `[eval]`: loss on `[[data.eval]]` during the run, and stopping when it no longer falls.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When and how `[[data.eval]]` is evaluated. Without eval data nothing is.
#[derive(Clone, Debug, PartialEq)]
pub struct Eval {
    /// Optimiser steps between evaluations; there is one after the last step too.
    pub every: usize,
    /// Rows per forward pass.
    pub batch_size: usize,
    /// Whether the model is evaluated before the first step too.
    pub at_start: bool,
    /// The weights that are evaluated.
    pub weights: EvaluatedWeights,
    /// Absent = the run goes on to its end.
    pub early_stopping: Option<EarlyStopping>,
}

/// The keys of `[eval]` as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(description = "When and how `[[data.eval]]` is evaluated. Without eval data nothing is.")]
pub struct EvalSection {
    /// Optimiser steps between evaluations; there is one after the last step too.
    #[schemars(range(min = 1), example = 10)]
    pub every: usize,
    /// Rows per forward pass; `train.micro_batch_size` when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 8)]
    pub batch_size: Option<usize>,
    /// Evaluate before the first step too. That evaluation is shown and logged as step 0; it is not ranked, since there is
    /// no checkpoint to go back to.
    #[schemars(example = true)]
    pub at_start: bool,
    /// The weights that are evaluated, and by which the best step is found: those of the step, or their moving average
    /// (`train.ema`).
    #[schemars(example = EvaluatedWeights::Ema)]
    pub weights: EvaluatedWeights,
    /// Ends the run when the evaluation loss no longer falls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
}

/// The weights that are evaluated during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum EvaluatedWeights {
    Last,
    Ema,
}

/// Ends the run when the evaluation loss no longer falls. Needs `[[data.eval]]`; leave the section out to run to the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EarlyStopping {
    /// Evaluations in a row without a lower loss before the run ends.
    #[schemars(range(min = 1), example = 5)]
    pub patience: usize,
    /// A loss is lower when it falls by more than this.
    #[schemars(range(min = 0), example = 0.01)]
    pub min_delta: f64,
}
