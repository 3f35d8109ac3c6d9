//! The loss of a pair with its derivatives: [`PairLoss`].

/// The loss of a pair. Arrays are of the chosen and of the rejected answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLoss {
    /// The loss.
    pub loss: f64,
    /// Its derivatives by the sums of the answers' log-probabilities.
    pub slopes: [f64; 2],
    /// Their rewards.
    pub rewards: [f64; 2],
    /// The log-probabilities as they are reported: sums, or means over tokens.
    pub shown: [f64; 2],
}
