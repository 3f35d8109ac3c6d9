//! Losses of pairs of answers, as one: [`PairFormula`].

use super::answers::Scored;
use super::dpo::Dpo;
use super::orpo::Orpo;
use super::simpo::Simpo;

/// A loss of pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PairFormula {
    /// Direct preference optimisation.
    Dpo(Dpo),
    /// The odds ratio.
    Orpo(Orpo),
    /// The margin of mean log-probabilities.
    Simpo(Simpo),
}

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

impl PairFormula {
    /// The loss of a pair.
    pub fn pair(&self, chosen: Scored, rejected: Scored) -> PairLoss {
        match self {
            Self::Dpo(dpo) => dpo.pair(chosen, rejected),
            Self::Orpo(orpo) => orpo.pair(chosen, rejected),
            Self::Simpo(simpo) => simpo.pair(chosen, rejected),
        }
    }

    /// Whether the likelihood of the chosen rows stands beside it.
    pub(super) fn charges_likelihood(&self) -> bool {
        match self {
            Self::Orpo(_) => true,
            Self::Dpo(_) | Self::Simpo(_) => false,
        }
    }
}
