//! `[train]`: how long, and in what portions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::default_values::{FEW_STEPS, MICRO_BATCH_LIMIT, MOST_EPOCHS};

/// How long, and in what portions.
#[derive(Clone, Debug, PartialEq)]
pub struct Train {
    pub duration: Duration,
    /// Rows (packs when packing) per optimiser step.
    pub batch_size: usize,
    /// The most rows per forward and backward pass; divides `batch_size`.
    pub micro_batch_size: usize,
    /// Absent = no clipping.
    pub max_grad_norm: Option<f64>,
    pub recompute: Recompute,
    /// Regular expressions: a full run leaves the weights whose names have a match as they are.
    pub freeze: Vec<String>,
    /// How much of the moving average of the trained weights each step keeps. Absent = there is none.
    pub ema: Option<f64>,
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duration {
    /// Passes over the training rows.
    Epochs(usize),
    /// Optimiser steps, over as many passes as that takes.
    Steps(usize),
    /// As many passes as [`Duration::fitting`] says: neither `epochs` nor `steps` is given. The plan writes the number in
    /// once the rows are known.
    Fitting,
}

impl Duration {
    /// Passes over rows that make `steps` optimiser steps in each: one, or as many as small data need for 30 steps, at
    /// most 10.
    pub fn fitting(steps: u64) -> usize {
        FEW_STEPS.div_ceil(steps.max(1) as usize).min(MOST_EPOCHS)
    }
}

/// The keys of `[train]` as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(description = "How long, and in what portions.")]
pub struct TrainSection {
    /// Passes over the training rows. When neither this nor `steps` is given: 1, or as many as small data need for 30 steps,
    /// at most 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 3)]
    pub epochs: Option<usize>,
    /// Optimiser steps, in place of `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 200)]
    pub steps: Option<usize>,
    /// Rows (packs when packing) per optimiser step.
    #[schemars(range(min = 1), example = 8)]
    pub batch_size: usize,
    /// The most rows per forward and backward pass. Must divide `batch_size`; results do not depend on it, memory does. Where the
    /// memory plan is more than what is free, a run takes a smaller divisor, and says so. When not given: the largest divisor of
    /// `batch_size` up to 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 2)]
    pub micro_batch_size: Option<usize>,
    /// Gradients are scaled down to this norm over all trained weights, or `"off"`.
    #[schemars(example = 0.5)]
    pub max_grad_norm: Clipping,
    /// Whether activations are computed again in the backward pass to save memory: never, block by block, or when the
    /// memory plan needs it although micro-batches were made smaller, down to 256 tokens.
    #[schemars(example = Recompute::Blocks)]
    pub recompute: Recompute,
    /// Weights that a full run leaves as they are: regular expressions that are looked for in the names of the model's files, such
    /// as `embed_tokens` or `layers\.[0-3]\.`. Each must match something, and something must be left to train.
    #[schemars(extend("examples" = [["embed_tokens"]]))]
    pub freeze: Vec<String>,
    /// Keeps an exponential moving average of the trained weights, of which each step keeps this part and takes the rest from its
    /// own weights: 0.999 averages over about a thousand steps. It changes nothing of what is trained; `eval.weights` and
    /// `export.weights` ask for it. Costs 4 bytes for each trained value. None when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1), example = 0.999)]
    pub ema: Option<f64>,
}

/// Whether activations are computed again in the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Recompute {
    Off,
    Blocks,
    Auto,
}

/// The largest gradient norm, or the word `off`: TOML has no null.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Clipping {
    Norm(#[schemars(extend("exclusiveMinimum" = 0))] f64),
    Off(Off),
}

/// The word `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Off {
    Off,
}

/// The largest divisor of `batch_size` that is at most `limit`.
pub(super) fn largest_divisor(batch_size: usize, limit: usize) -> usize {
    (1..=limit.min(batch_size)).rev().find(|size| batch_size.is_multiple_of(*size)).unwrap_or(1)
}

impl From<TrainSection> for Train {
    fn from(section: TrainSection) -> Self {
        Train {
            duration: match (section.epochs, section.steps) {
                (_, Some(steps)) => Duration::Steps(steps),
                (Some(epochs), None) => Duration::Epochs(epochs),
                (None, None) => Duration::Fitting,
            },
            batch_size: section.batch_size,
            micro_batch_size: section
                .micro_batch_size
                .unwrap_or_else(|| largest_divisor(section.batch_size, MICRO_BATCH_LIMIT)),
            max_grad_norm: match section.max_grad_norm {
                Clipping::Norm(norm) => Some(norm),
                Clipping::Off(Off::Off) => None,
            },
            recompute: section.recompute,
            freeze: section.freeze,
            ema: section.ema,
        }
    }
}

impl From<&Train> for TrainSection {
    fn from(train: &Train) -> Self {
        let (epochs, steps) = match train.duration {
            Duration::Epochs(epochs) => (Some(epochs), None),
            Duration::Steps(steps) => (None, Some(steps)),
            Duration::Fitting => (None, None),
        };
        TrainSection {
            epochs,
            steps,
            batch_size: train.batch_size,
            micro_batch_size: Some(train.micro_batch_size),
            max_grad_norm: train.max_grad_norm.map_or(Clipping::Off(Off::Off), Clipping::Norm),
            recompute: train.recompute,
            freeze: train.freeze.clone(),
            ema: train.ema,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, largest_divisor};

    #[test]
    fn small_data_are_visited_more_often() {
        let epochs = |steps| Duration::fitting(steps);
        assert_eq!([1, 3, 10, 29, 30, 5000].map(epochs), [10, 10, 3, 2, 1, 1]);
    }

    #[test]
    fn the_default_micro_batch_divides_the_batch() {
        assert_eq!(largest_divisor(16, 4), 4);
        assert_eq!(largest_divisor(6, 4), 3);
        assert_eq!(largest_divisor(7, 4), 1);
        assert_eq!(largest_divisor(1, 4), 1);
    }
}
