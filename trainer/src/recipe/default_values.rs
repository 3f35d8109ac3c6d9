//! Defaults of single keys: of the recipe's top, of required sections, and of keys that say the same thing in two ways.

use super::device::DeviceName;
use super::dtype::ComputeDtype;

/// Steps of the warm-up, when neither steps nor a ratio is given.
pub(super) const WARMUP_STEPS: usize = 10;
/// Passes over the data, when neither epochs nor steps are given.
pub(super) const EPOCHS: usize = 1;
/// The default micro-batch is the largest divisor of the batch up to this.
pub(super) const MICRO_BATCH_LIMIT: usize = 4;

pub(super) fn seed() -> u64 {
    42
}

pub(super) fn device() -> DeviceName {
    DeviceName::Auto
}

pub(super) fn dtype() -> ComputeDtype {
    ComputeDtype::F32
}

pub(super) fn max_new_tokens() -> usize {
    64
}
