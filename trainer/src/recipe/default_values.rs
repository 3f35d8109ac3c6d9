//! Defaults of single keys: of the recipe's top, of required sections, and of keys that say the same thing in two ways.

use super::device::DeviceName;
use super::dtype::ComputeDtype;

/// The longest warm-up when neither steps nor a ratio is given.
pub(super) const WARMUP_STEPS: usize = 10;
/// Its share of the run is one step in so many.
pub(super) const WARMUP_SHARE: usize = 10;
/// The decay at the end of a run, as a share of its steps, when neither steps nor a ratio is given.
pub(super) const DECAY_RATIO: f64 = 0.1;
/// The time scale of an inverse square root that follows no warm-up, in steps.
pub(super) const TIMESCALE_WITHOUT_WARMUP: u64 = 10_000;
/// A run of fewer steps is given more epochs, when neither epochs nor steps are given.
pub(super) const FEW_STEPS: usize = 30;
/// So many epochs at most.
pub(super) const MOST_EPOCHS: usize = 10;
/// The default micro-batch is the largest divisor of the batch up to this.
pub(super) const MICRO_BATCH_LIMIT: usize = 4;

pub(super) fn seed() -> u64 {
    42
}

pub(super) fn device() -> DeviceName {
    DeviceName::Auto
}

pub(super) fn dtype() -> ComputeDtype {
    ComputeDtype::default()
}

pub(super) fn max_new_tokens() -> usize {
    64
}
