//! The optimiser's part of a step.

use super::trainer::Trainer;
use crate::objective::Gradients;
use crate::optim::{LearningRates, LoraPlus};
use crate::profile::phase;
use crate::recipe::Method;

impl Trainer<'_> {
    /// Changes everything that is trained by its gradient, and the average of it.
    pub(super) fn update(mut self, mut gradients: Gradients, learning_rate: f64) -> Self {
        phase!("optimizer");
        let loraplus = match &self.recipe.method {
            Method::Lora(lora) | Method::Dora(lora) if lora.loraplus_lr_ratio != 1.0 => Some(LoraPlus {
                ratio: lora.loraplus_lr_ratio,
                embedding: lora.loraplus_lr_embedding * self.schedule_factor(self.state.step),
            }),
            Method::Lora(_) | Method::Dora(_) | Method::Ia3(_) | Method::Full => None,
        };
        let layer_decay = self.recipe.optimizer.layer_decay();
        let rates = LearningRates { base: learning_rate, loraplus, layer_decay };
        let (optimizer, state, trained) = (&self.recipe.optimizer, &mut self.optimizer, &self.trained);
        state.begin_step();
        if let Some(projections) = self.objective.projections() {
            *projections = projections.clone().update(&mut gradients, optimizer, state, rates);
        }
        self.model = self.model.with_network(|network| {
            self.objective.after_step(gradients.apply(network, "", trained, optimizer, state, rates))
        });
        if let Some(average) = &mut self.average {
            average.update(self.model.network(), &self.trained);
        }
        self
    }
}
