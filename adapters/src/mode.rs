//! Whether a forward pass trains.

/// Where a token stands in its micro-batch, for maps that see tokens out of their order: those of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Row of the micro-batch.
    pub row: usize,
    /// Token of the row.
    pub time: usize,
}

/// The only thing a forward pass needs to know beyond its inputs.
///
/// Dropout masks are a pure function of `key`, the row's place in the optimiser step and the module's own path, never of
/// a global generator: a resumed or recomputed pass draws the same masks, and so does any split into micro-batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No dropout.
    Inference,
    /// Dropout is active.
    Training {
        /// Seed of this optimiser step's masks.
        key: u64,
        /// Place in the step of the first row of this micro-batch.
        first_row: usize,
    },
}

impl Mode {
    /// The mode of the rows of a micro-batch that follow its first `rows`.
    pub fn after(self, rows: usize) -> Self {
        match self {
            Self::Inference => Self::Inference,
            Self::Training { key, first_row } => Self::Training { key, first_row: first_row + rows },
        }
    }
}
