//! Sums over the rows of a step or of an evaluation: [`Sums`] becomes the loss and the numbers beside it.

use crate::objective::parts::Parts;

/// Sums over judged answers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    /// Weighted losses of pairs or rows, and their weights.
    pub losses: f64,
    pub weight: f64,
    /// Weighted negative log-likelihoods of tokens, and their weights.
    pub likelihood: f64,
    pub tokens: f64,
    /// Answers that are preferred or good, and the others.
    pub better: Side,
    pub worse: Side,
    /// Pairs whose better answer has the higher reward; absent where rows are no pairs.
    pub right: Option<f64>,
    /// How far the model has gone from the base, where that is a part of the loss.
    pub kl: Option<f64>,
}

/// Sums over answers of one judgement.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Side {
    count: f64,
    rewards: f64,
    log_probabilities: f64,
}

impl Side {
    pub fn add(&mut self, reward: f64, log_probability: f64) {
        self.count += 1.0;
        self.rewards += reward;
        self.log_probabilities += log_probability;
    }

    /// Mean reward and log-probability; absent without answers.
    fn means(&self) -> Option<[f64; 2]> {
        (self.count > 0.0).then(|| [self.rewards / self.count, self.log_probabilities / self.count])
    }
}

impl Sums {
    /// The loss.
    pub fn loss(&self) -> f64 {
        let likelihood = if self.tokens > 0.0 { self.likelihood / self.tokens } else { 0.0 };
        self.losses / self.weight + likelihood
    }

    /// The numbers beside the loss. What no row has is not there.
    pub fn parts(&self) -> Parts {
        let mut parts = Parts::default();
        for (name, side) in [("chosen", &self.better), ("rejected", &self.worse)] {
            if let Some([reward, log_probability]) = side.means() {
                parts.set(&format!("rewards/{name}"), reward);
                parts.set(&format!("logps/{name}"), log_probability);
            }
        }
        if let (Some([better, _]), Some([worse, _])) = (self.better.means(), self.worse.means()) {
            parts.set("rewards/margins", better - worse);
        }
        if let Some(right) = self.right {
            parts.set("rewards/accuracies", right / self.better.count);
        }
        if let Some(kl) = self.kl {
            parts.set("kl", kl);
        }
        parts
    }
}
