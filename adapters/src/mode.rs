//! [`Mode`]: whether a forward pass trains, and with which dropout masks.

/// The position of a token in its micro-batch, for the maps of experts, which see tokens in another order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Row of the micro-batch: its pack.
    pub row: usize,
    /// Position in the row.
    pub time: usize,
}

/// Training or inference: all that a forward pass depends on beside its inputs.
///
/// Dropout masks are a pure function of `key`, the row's number in the optimiser step and the module's own path, never
/// of a global generator. So a resumed or recomputed pass draws the same masks, and so does every split into
/// micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No dropout.
    Inference,
    /// Dropout is active.
    Training {
        /// Seed of this optimiser step's masks.
        key: u64,
        /// Number in the step of the first row of this micro-batch.
        first_row: usize,
    },
}
