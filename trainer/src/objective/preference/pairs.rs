//! Losses of pairs of answers, as one: [`PairFormula`].

use super::answers::Scored;
use super::dpo::Dpo;
use super::orpo::Orpo;
use super::pair_loss::PairLoss;
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
