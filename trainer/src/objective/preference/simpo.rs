//! SimPO, [`Simpo`] (Meng et al. 2024, arXiv:2405.14734, equation 6).
//!
//! With `m` the mean log-probability of an answer's tokens, a pair's loss is `-log sigmoid(beta (m(chosen) - m(rejected)) - gamma)`.
//! There is no reference, and no likelihood beside it.
//!
//! The reward of an answer is `beta m`.

use super::answers::Scored;
use super::math::{log_sigmoid, sigmoid};
use super::pair_loss::PairLoss;

/// The loss of the margin of mean log-probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Simpo {
    /// Factor of the difference.
    pub beta: f64,
    /// The margin that the product should have.
    pub gamma: f64,
}

impl Simpo {
    /// The loss of a pair.
    pub fn pair(&self, chosen: Scored, rejected: Scored) -> PairLoss {
        let rewards = [chosen, rejected].map(|answer| self.beta * answer.mean());
        let margin = rewards[0] - rewards[1] - self.gamma;
        let slope = -self.beta * sigmoid(-margin);
        PairLoss {
            loss: -log_sigmoid(margin),
            slopes: [slope / chosen.tokens, -slope / rejected.tokens],
            rewards,
            shown: [chosen.mean(), rejected.mean()],
        }
    }
}
