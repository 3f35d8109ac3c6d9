//! The output head of a decoder: [`Head`] computes logits, losses and token statistics from the last hidden states.

use burn::tensor::{Int, Tensor};
use firebrand_kernels::{
    HeadWeight, Precision, Predicted, Regularisation, RegularisedLoss, linear, linear_cross_entropy,
    linear_log_probabilities, regularised_cross_entropy, token_statistics,
};

/// The output head. Its matrix may be the token table.
#[derive(Debug, Clone)]
pub struct Head {
    /// `[vocab_size, width]`, with what an adapter adds to it.
    pub weight: HeadWeight,
    /// `[vocab_size]`.
    pub bias: Option<Tensor<1>>,
    /// Logits become `softcap * tanh(logit / softcap)`.
    pub softcap: Option<f64>,
}

impl Head {
    /// Logits `[..., vocab_size]` of the decoder's hidden states. For inference: a loss never needs all of them at
    /// once.
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let HeadWeight { matrix, low_rank, precision } = &self.weight;
        let mut logits = match low_rank {
            None => linear(hidden, matrix.clone(), *precision),
            Some(low_rank) => {
                let [batch, time, all] = hidden.dims();
                let columns = |from: usize, to: usize| hidden.clone().slice([0..batch, 0..time, from..to]);
                let width = matrix.dims()[1];
                linear(columns(0, width), matrix.clone(), *precision)
                    + linear(columns(width, all), low_rank.clone(), Precision::F32)
            }
        };
        if let Some(bias) = &self.bias {
            logits = logits + bias.clone().unsqueeze();
        }
        match self.softcap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }

    /// The weighted sum of cross-entropies, `[1]`, for hidden states `[tokens, width]` and `targets` `[tokens]`.
    pub fn loss(&self, hidden: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>) -> Tensor<1> {
        linear_cross_entropy(hidden, self.weight.clone(), self.bias.clone(), targets, weights, self.softcap)
    }

    /// The log-probability of each target, `[tokens]`. Gradients flow.
    pub fn log_probabilities(&self, hidden: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        linear_log_probabilities(hidden, self.weight.clone(), self.bias.clone(), targets, self.softcap)
    }

    /// Hidden states `[tokens, width]` with this head, for operations that compare two models.
    pub fn predicted(self, hidden: Tensor<2>) -> Predicted {
        let Self { weight, bias, softcap } = self;
        Predicted { hidden, head: weight, bias, softcap }
    }

    /// As [`Self::loss`], with label smoothing and z-loss.
    pub fn regularised_loss(
        &self,
        hidden: Tensor<2>,
        targets: Tensor<1, Int>,
        weights: Tensor<1>,
        terms: Regularisation,
    ) -> RegularisedLoss {
        let (weight, bias) = (self.weight.clone(), self.bias.clone());
        regularised_cross_entropy(hidden, weight, bias, targets, weights, self.softcap, terms)
    }

    /// The log-probability of each target and the most likely token, both `[tokens]`. No gradient flows.
    pub fn statistics(&self, hidden: Tensor<2>, targets: Tensor<1, Int>) -> (Tensor<1>, Tensor<1, Int>) {
        token_statistics(hidden, self.weight.clone(), self.bias.clone(), targets, self.softcap)
    }
}
