//! Stochastic gradient descent with momentum, as `torch.optim.SGD` computes it: weight decay is added to the gradient,
//! and the momentum buffer starts as the first gradient.

use burn::tensor::Tensor;

use crate::recipe::SgdRecipe;

impl SgdRecipe {
    /// Updates one flat parameter; returns the new value and the momentum buffer.
    pub(super) fn step(
        &self,
        value: Tensor<1>,
        gradient: Tensor<1>,
        buffer: Option<Tensor<1>>,
        learning_rate: f64,
    ) -> (Tensor<1>, Option<Tensor<1>>) {
        let gradient = if self.weight_decay == 0.0 { gradient } else { gradient + value.clone() * self.weight_decay };
        if self.momentum == 0.0 {
            return (value - gradient * learning_rate, None);
        }
        let buffer = match buffer {
            Some(buffer) => buffer * self.momentum + gradient.clone(),
            None => gradient.clone(),
        };
        let update = if self.nesterov { gradient + buffer.clone() * self.momentum } else { buffer.clone() };
        (value - update * learning_rate, Some(buffer))
    }
}
