//! ORPO, [`Orpo`] (Hong et al. 2024, arXiv:2403.07691, equations 3 to 7).
//!
//! With `m` the mean log-probability of an answer's tokens, the odds of an answer are `p / (1 - p)` for `p = exp(m)`, and a pair's loss
//! is `-lambda log sigmoid(log odds(chosen) - log odds(rejected))`. Beside it stands the negative log-likelihood of the chosen rows,
//! prompts included: their sum over the step, divided by the number of their tokens. There is no reference.
//!
//! The reward of an answer is `lambda m`.

use super::answers::Scored;
use super::math::{log_1_minus_exp, log_sigmoid, sigmoid};
use super::pair_loss::PairLoss;

/// The loss of the odds ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Orpo {
    /// Its factor.
    pub lambda: f64,
}

/// An answer of which the model is certain: nearer to 0 than a log-probability in f32 can be told from it. Its odds would be infinite.
const CERTAIN: f64 = -1e-8;

impl Orpo {
    /// The loss of a pair, without the likelihood.
    pub fn pair(&self, chosen: Scored, rejected: Scored) -> PairLoss {
        // Not `min`, which would make a number of what is none.
        let means = [chosen, rejected].map(|answer| if answer.mean() > CERTAIN { CERTAIN } else { answer.mean() });
        let [of_chosen, of_rejected] = means.map(|mean| mean - log_1_minus_exp(mean));
        let ratio = of_chosen - of_rejected;
        let slope = -self.lambda * sigmoid(-ratio);
        // The log of the odds grows by 1 / (1 - p) with the mean.
        let [by_chosen, by_rejected] = means.map(|mean| -1.0 / mean.exp_m1());
        PairLoss {
            loss: -self.lambda * log_sigmoid(ratio),
            slopes: [slope * by_chosen / chosen.tokens, -slope * by_rejected / rejected.tokens],
            rewards: [self.lambda * chosen.mean(), self.lambda * rejected.mean()],
            shown: [chosen.mean(), rejected.mean()],
        }
    }
}
