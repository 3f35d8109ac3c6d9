//! The AdamW optimiser (Loshchilov & Hutter 2017, arXiv:1711.05101), as `torch.optim.AdamW` computes it: decoupled
//! weight decay first, then bias-corrected moments, with `eps` added after the corrected square root.

use burn::tensor::Tensor;

use crate::recipe::AdamwRecipe;

/// The moments of one parameter, flat.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Tensor<1>,
    /// Running mean of its square.
    pub second: Tensor<1>,
}

impl AdamwRecipe {
    /// Updates one flat parameter; `step` counts from 1.
    pub(super) fn step(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        moments: Option<Moments>,
        learning_rate: f64,
        step: u64,
    ) -> (Tensor<1>, Moments) {
        let [beta1, beta2] = self.betas;
        let moments =
            moments.unwrap_or_else(|| Moments { first: gradient.zeros_like(), second: gradient.zeros_like() });
        let first = moments.first * beta1 + gradient.clone() * (1.0 - beta1);
        let second = moments.second * beta2 + gradient.clone() * gradient * (1.0 - beta2);
        let steps = step as f64;
        let correction1 = 1.0 - beta1.powf(steps);
        let correction2 = 1.0 - beta2.powf(steps);
        let denominator = second.clone().sqrt() / correction2.sqrt() + self.eps;
        let value = value * (1.0 - learning_rate * self.weight_decay)
            - first.clone() / denominator * (learning_rate / correction1);
        (value, Moments { first, second })
    }
}
