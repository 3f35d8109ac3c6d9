//! The Lion optimiser (Chen et al. 2023, arXiv:2302.06675), as the package lion-pytorch computes it: decoupled weight
//! decay first, then a step by the sign of a mix of gradient and momentum. Where the mix is zero there is no step.

use burn::tensor::Tensor;

use crate::recipe::LionRecipe;

impl LionRecipe {
    /// Updates one flat parameter; returns the new value and the running mean of its gradients.
    pub(super) fn step(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        mean: Option<Tensor<1>>,
        learning_rate: f64,
    ) -> (Tensor<1>, Tensor<1>) {
        let [beta1, beta2] = self.betas;
        let mean = mean.unwrap_or_else(|| gradient.zeros_like());
        let direction = (mean.clone() * beta1 + gradient.clone() * (1.0 - beta1)).sign();
        let value = value * (1.0 - learning_rate * self.weight_decay) - direction * learning_rate;
        (value, mean * beta2 + gradient * (1.0 - beta2))
    }
}
