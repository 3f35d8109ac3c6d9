//! `[schedule]`: how the learning rate moves over a run. The curves equal transformers' `get_*_schedule_with_warmup`.
//!
//! The curve is computed by the training loop; this file only says which.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::default_values::{WARMUP_SHARE, WARMUP_STEPS};
use super::inlined::default_kind;

/// A warm-up from zero, then a curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub curve: Curve,
    pub warmup: Warmup,
}

/// What the learning rate does after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    Constant,
    /// Straight to zero at the last step.
    Linear,
    /// Half a cosine to zero at the last step.
    Cosine,
    /// Half a cosine to `min_ratio` times the highest learning rate.
    CosineWithMinLr {
        min_ratio: f64,
    },
}

/// How long the learning rate rises linearly from zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    Steps(usize),
    /// Of all steps of the run.
    Ratio(f64),
    /// A tenth of the run and at most 10 steps: neither steps nor a ratio is given. The plan writes the number in once the
    /// rows are known.
    Fitting,
}

impl Warmup {
    /// Warm-up steps in a run of `total` optimiser steps. A ratio is rounded up, as transformers does.
    pub fn steps(self, total: usize) -> usize {
        match self {
            Warmup::Steps(steps) => steps,
            Warmup::Ratio(ratio) => (total as f64 * ratio).ceil() as usize,
            Warmup::Fitting => (total / WARMUP_SHARE).min(WARMUP_STEPS),
        }
    }
}

/// How the learning rate moves: a linear warm-up from zero, then a curve. Equal to transformers' schedules of these names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[schemars(transform = cosine_by_default)]
pub enum ScheduleSection {
    /// Half a cosine from the highest rate to zero at the last step.
    Cosine(WarmupKeys),
    /// Half a cosine from the highest rate to `min_ratio` times it.
    CosineWithMinLr(MinLrKeys),
    /// A straight line from the highest rate to zero at the last step.
    Linear(WarmupKeys),
    /// The highest rate to the end.
    Constant(WarmupKeys),
}

/// Keys of the curves that have no other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarmupKeys {
    /// Optimiser steps in which the learning rate rises from zero. When neither this nor `warmup_ratio` is given: a tenth of
    /// the run, at most 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3)]
    pub warmup_steps: Option<usize>,
    /// The same as a share of all steps, in place of `warmup_steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1), example = 0.03)]
    pub warmup_ratio: Option<f64>,
}

/// Keys of the cosine that ends above zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MinLrKeys {
    /// The last learning rate as a share of the highest.
    #[schemars(range(min = 0, max = 1), example = 0.2)]
    pub min_ratio: f64,
    /// Optimiser steps in which the learning rate rises from zero. When neither this nor `warmup_ratio` is given: a tenth of
    /// the run, at most 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = 3)]
    pub warmup_steps: Option<usize>,
    /// The same as a share of all steps, in place of `warmup_steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1), example = 0.03)]
    pub warmup_ratio: Option<f64>,
}

impl From<ScheduleSection> for Schedule {
    fn from(section: ScheduleSection) -> Self {
        let (curve, steps, ratio) = match section {
            ScheduleSection::Cosine(keys) => (Curve::Cosine, keys.warmup_steps, keys.warmup_ratio),
            ScheduleSection::Linear(keys) => (Curve::Linear, keys.warmup_steps, keys.warmup_ratio),
            ScheduleSection::Constant(keys) => (Curve::Constant, keys.warmup_steps, keys.warmup_ratio),
            ScheduleSection::CosineWithMinLr(keys) => {
                let min_ratio = keys.min_ratio;
                (Curve::CosineWithMinLr { min_ratio }, keys.warmup_steps, keys.warmup_ratio)
            }
        };
        let warmup = match (steps, ratio) {
            (Some(steps), _) => Warmup::Steps(steps),
            (None, Some(ratio)) => Warmup::Ratio(ratio),
            (None, None) => Warmup::Fitting,
        };
        Schedule { curve, warmup }
    }
}

impl From<&Schedule> for ScheduleSection {
    fn from(schedule: &Schedule) -> Self {
        let (warmup_steps, warmup_ratio) = match schedule.warmup {
            Warmup::Steps(steps) => (Some(steps), None),
            Warmup::Ratio(ratio) => (None, Some(ratio)),
            Warmup::Fitting => (None, None),
        };
        let keys = WarmupKeys { warmup_steps, warmup_ratio };
        match schedule.curve {
            Curve::Cosine => ScheduleSection::Cosine(keys),
            Curve::Linear => ScheduleSection::Linear(keys),
            Curve::Constant => ScheduleSection::Constant(keys),
            Curve::CosineWithMinLr { min_ratio } => {
                ScheduleSection::CosineWithMinLr(MinLrKeys { min_ratio, warmup_steps, warmup_ratio })
            }
        }
    }
}

fn cosine_by_default(schema: &mut Schema) {
    default_kind(schema, "cosine");
}

#[cfg(test)]
mod tests {
    use super::Warmup;

    #[test]
    fn warmup_ratio_rounds_up_as_transformers_does() {
        assert_eq!(Warmup::Ratio(0.03).steps(10), 1);
        assert_eq!(Warmup::Ratio(0.0).steps(10), 0);
        assert_eq!(Warmup::Ratio(0.1).steps(30), 3);
        assert_eq!(Warmup::Steps(10).steps(5), 10);
    }

    #[test]
    fn the_default_warm_up_is_a_tenth_and_never_the_whole_run() {
        let steps = |total| Warmup::Fitting.steps(total);
        assert_eq!([1, 9, 10, 30, 100, 5000].map(steps), [0, 0, 1, 3, 10, 10]);
    }
}
