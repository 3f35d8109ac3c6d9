//! `[schedule]`: how the learning rate moves over a run. The curves equal transformers' schedules (`optimization.py`).
//!
//! The curve is computed by the training loop (`optim/schedule.rs`); this file only says which.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::default_values::{DECAY_RATIO, TIMESCALE_WITHOUT_WARMUP, WARMUP_SHARE, WARMUP_STEPS};
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
    /// So many halves of a cosine, each from the highest rate to zero.
    CosineWithRestarts {
        cycles: usize,
    },
    /// A power of the share of steps that are left, down to the rate `lr_end`.
    Polynomial {
        power: f64,
        lr_end: f64,
    },
    /// `1 / sqrt(1 + steps after the warm-up / timescale)`.
    InverseSqrt {
        timescale: Timescale,
    },
    /// The highest rate, and a decay at the end of the run.
    WarmupStableDecay(WarmupStableDecay),
}

/// How slowly the inverse square root falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timescale {
    Steps(usize),
    /// As many steps as the warm-up, or 10,000 where there is none.
    OfWarmup,
}

impl Timescale {
    /// Steps of the time scale after a warm-up of `warmup` steps; at least 1.
    pub fn steps(self, warmup: u64) -> u64 {
        match (self, warmup) {
            (Timescale::Steps(steps), _) => steps as u64,
            (Timescale::OfWarmup, 0) => TIMESCALE_WITHOUT_WARMUP,
            (Timescale::OfWarmup, warmup) => warmup,
        }
    }
}

/// A warm-up, a stretch at the highest rate, and a decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmupStableDecay {
    pub decay: Decay,
    pub decay_type: Ramp,
    pub warmup_type: Ramp,
    /// The first rate of the warm-up and the last one of the decay, as a share of the highest.
    pub min_ratio: f64,
}

/// How long the learning rate falls at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decay {
    Steps(usize),
    /// Of all steps of the run.
    Ratio(f64),
}

impl Decay {
    /// Steps of the decay in a run of `total` optimiser steps that begins with `warmup`. A ratio is rounded up, and is never
    /// more than the warm-up leaves.
    pub fn steps(self, total: u64, warmup: u64) -> u64 {
        match self {
            Decay::Steps(steps) => steps as u64,
            Decay::Ratio(ratio) => ((total as f64 * ratio).ceil() as u64).min(total.saturating_sub(warmup)),
        }
    }
}

/// The shape of a rise or fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Ramp {
    /// A straight line.
    Linear,
    /// Half a cosine.
    Cosine,
    /// `1 - sqrt(progress)`.
    #[serde(rename = "1-sqrt")]
    OneMinusSqrt,
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
    /// Half a cosine from the highest rate to zero, `cycles` times, each from the highest rate again.
    CosineWithRestarts(RestartKeys),
    /// From the highest rate to `lr_end`, by a power of the share of steps that are left.
    Polynomial(PolynomialKeys),
    /// The highest rate divided by the root of 1 + steps after the warm-up / `timescale`. The end of the run plays no part, so
    /// that a longer run begins like a shorter one.
    InverseSqrt(InverseSqrtKeys),
    /// A warm-up, the highest rate, and a decay at the end of the run (WSD).
    WarmupStableDecay(StableDecayKeys),
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

/// Keys of the cosine with restarts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RestartKeys {
    /// Halves of a cosine in the run; 1 is the plain cosine.
    #[schemars(range(min = 1), example = 3)]
    pub cycles: usize,
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

/// Keys of the polynomial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolynomialKeys {
    /// The power of the share of steps that are left; 1 is a straight line.
    #[schemars(extend("exclusiveMinimum" = 0), example = 2.0)]
    pub power: f64,
    /// The learning rate at the end. Must be below the highest.
    #[schemars(range(min = 0), example = 1e-6)]
    pub lr_end: f64,
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

/// Keys of the inverse square root.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InverseSqrtKeys {
    /// Steps after the warm-up until the rate is the highest divided by the root of 2. When not given: as many as the warm-up
    /// has, or 10,000 without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 1000)]
    pub timescale: Option<usize>,
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

/// Keys of warm-up, stable rate and decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StableDecayKeys {
    /// Optimiser steps at the end of the run in which the rate falls. Must fit into the run beside the warm-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), example = 20)]
    pub decay_steps: Option<usize>,
    /// The same as a share of all steps, in place of `decay_steps`. When neither is given: a tenth of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0), range(max = 1), example = 0.2)]
    pub decay_ratio: Option<f64>,
    /// The shape of the decay: half a cosine, a straight line, or 1 - sqrt(progress).
    #[schemars(example = Ramp::OneMinusSqrt)]
    pub decay_type: Ramp,
    /// The shape of the warm-up.
    #[schemars(example = Ramp::Cosine)]
    pub warmup_type: Ramp,
    /// The last learning rate as a share of the highest. The warm-up begins at it too, as in transformers.
    #[schemars(range(min = 0, max = 1), example = 0.1)]
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
            ScheduleSection::CosineWithRestarts(keys) => {
                (Curve::CosineWithRestarts { cycles: keys.cycles }, keys.warmup_steps, keys.warmup_ratio)
            }
            ScheduleSection::Polynomial(keys) => {
                let (power, lr_end) = (keys.power, keys.lr_end);
                (Curve::Polynomial { power, lr_end }, keys.warmup_steps, keys.warmup_ratio)
            }
            ScheduleSection::InverseSqrt(keys) => {
                let timescale = keys.timescale.map_or(Timescale::OfWarmup, Timescale::Steps);
                (Curve::InverseSqrt { timescale }, keys.warmup_steps, keys.warmup_ratio)
            }
            ScheduleSection::WarmupStableDecay(keys) => {
                (Curve::WarmupStableDecay(keys.curve()), keys.warmup_steps, keys.warmup_ratio)
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

impl StableDecayKeys {
    fn curve(&self) -> WarmupStableDecay {
        let Self { decay_type, warmup_type, min_ratio, .. } = *self;
        let decay = match (self.decay_steps, self.decay_ratio) {
            (Some(steps), _) => Decay::Steps(steps),
            (None, ratio) => Decay::Ratio(ratio.unwrap_or(DECAY_RATIO)),
        };
        WarmupStableDecay { decay, decay_type, warmup_type, min_ratio }
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
            Curve::CosineWithRestarts { cycles } => {
                ScheduleSection::CosineWithRestarts(RestartKeys { cycles, warmup_steps, warmup_ratio })
            }
            Curve::Polynomial { power, lr_end } => {
                ScheduleSection::Polynomial(PolynomialKeys { power, lr_end, warmup_steps, warmup_ratio })
            }
            Curve::InverseSqrt { timescale } => {
                let timescale = match timescale {
                    Timescale::Steps(steps) => Some(steps),
                    Timescale::OfWarmup => None,
                };
                ScheduleSection::InverseSqrt(InverseSqrtKeys { timescale, warmup_steps, warmup_ratio })
            }
            Curve::WarmupStableDecay(WarmupStableDecay { decay, decay_type, warmup_type, min_ratio }) => {
                let (decay_steps, decay_ratio) = match decay {
                    Decay::Steps(steps) => (Some(steps), None),
                    Decay::Ratio(ratio) => (None, Some(ratio)),
                };
                ScheduleSection::WarmupStableDecay(StableDecayKeys {
                    decay_steps,
                    decay_ratio,
                    decay_type,
                    warmup_type,
                    min_ratio,
                    warmup_steps,
                    warmup_ratio,
                })
            }
        }
    }
}

fn cosine_by_default(schema: &mut Schema) {
    default_kind(schema, "cosine");
}

#[cfg(test)]
mod tests {
    use super::{Decay, Warmup};

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
    #[test]
    fn a_share_of_decay_never_reaches_into_the_warm_up() {
        assert_eq!(Decay::Ratio(0.5).steps(3, 2), 1);
        assert_eq!(Decay::Ratio(0.1).steps(30, 3), 3);
        assert_eq!(Decay::Ratio(0.1).steps(1, 5), 0);
        assert_eq!(Decay::Steps(7).steps(3, 2), 7);
    }
}
