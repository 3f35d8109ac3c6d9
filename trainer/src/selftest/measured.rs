//! What a claim was found to be.

use serde::Serialize;

/// The number a claim is about, and how large it may be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// What was measured, with the numbers around it.
    pub what: String,
    /// How far the two sides of the claim are apart.
    pub value: f64,
    /// How far they may be.
    pub limit: f64,
}

impl Measured {
    /// Whether the value is a number within its limit.
    pub(super) fn holds(&self) -> bool {
        self.value <= self.limit
    }
}
