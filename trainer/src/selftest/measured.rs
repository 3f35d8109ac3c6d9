//! [`Measured`]: the result of checking one claim.

use serde::Serialize;

/// The number that a claim is about, and its limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// What was measured, with the numbers around it.
    pub what: String,
    /// The difference between the two sides of the claim.
    pub value: f64,
    /// The largest difference allowed.
    pub limit: f64,
}

impl Measured {
    /// Whether the value is a number within its limit.
    pub(super) fn holds(&self) -> bool {
        self.value <= self.limit
    }
}
