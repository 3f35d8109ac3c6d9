//! KTO, [`Kto`] (Ethayarajh et al. 2024, arXiv:2402.01306, equations 7 and 8).
//!
//! With `r` the log-ratio of an answer, `log p(answer | prompt) - log p_base(answer | prompt)`, the loss of a good answer is
//! `weight (1 - sigmoid(beta (r - KL)))` and that of a bad one `weight (1 - sigmoid(beta (KL - r)))`, with a weight for each of the two.
//! A step's loss is the sum over its rows divided by their number. `KL` is how far the model has gone from the base, estimated from
//! answers that do not belong to their prompts (`mismatched.rs`), and has no gradient.
//!
//! The reward of an answer is `beta r`.

use firebrand_datasets::Judgement;

use super::answers::Scored;
use super::math::sigmoid;

/// The loss of answers that are good or bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kto {
    /// Factor of the log-ratios.
    pub beta: f64,
    /// Weight of good answers.
    pub desirable_weight: f64,
    /// Weight of bad answers.
    pub undesirable_weight: f64,
}

/// The loss of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerLoss {
    /// The loss.
    pub loss: f64,
    /// Its derivative by the sum of the answer's log-probabilities.
    pub slope: f64,
    /// The reward.
    pub reward: f64,
}

impl Kto {
    /// The loss of an answer.
    pub fn answer(&self, answer: Scored, judgement: Judgement, kl: f64) -> AnswerLoss {
        let (weight, sign) = match judgement {
            Judgement::Good => (self.desirable_weight, 1.0),
            Judgement::Bad => (self.undesirable_weight, -1.0),
        };
        let margin = sign * self.beta * (answer.log_ratio() - kl);
        let wrong = sigmoid(-margin);
        AnswerLoss {
            loss: weight * wrong,
            slope: -weight * sign * self.beta * wrong * sigmoid(margin),
            reward: self.beta * answer.log_ratio(),
        }
    }
}
