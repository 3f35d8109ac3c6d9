//! Updates one parameter by the optimiser of the recipe: [`Optimizer::update`] chooses the rule,
//! [`Optimizer::quantities`] lists its state.

use burn::tensor::Tensor;

use super::adamw::Moments;
use super::parameter::Parameter;
use super::state::{OptimizerState, Quantity};
use crate::recipe::{AdamwRecipe, MuonAdamwRecipe, Optimizer};

impl Optimizer {
    /// Updates one parameter, given with its gradient as flat tensors; returns the new value. Call it once for each
    /// parameter after [`OptimizerState::begin_step`]. `learning_rate` is the parameter's own, after the schedule.
    pub fn update(
        &self,
        state: &mut OptimizerState,
        parameter: Parameter<'_>,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        if self.no_decay() && parameter.is_norm_or_bias() {
            return self.without_decay().step(state, parameter, value, gradient, learning_rate);
        }
        self.step(state, parameter, value, gradient, learning_rate)
    }

    fn step(
        &self,
        state: &mut OptimizerState,
        parameter: Parameter<'_>,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        match self {
            Self::Adamw(adamw) => adamw.update(state, parameter, value, gradient, learning_rate),
            Self::Adamw8bit(adamw) if adamw.is_quantized(parameter) => {
                adamw.update(state, parameter, value, gradient, learning_rate)
            }
            Self::Adamw8bit(adamw) => adamw.in_f32().update(state, parameter, value, gradient, learning_rate),
            Self::Adafactor(adafactor) => adafactor.update(state, parameter, value, gradient, learning_rate),
            Self::Lion(lion) => {
                let mean = state.take(parameter, "exp_avg");
                let (value, mean) = lion.step(value, gradient, mean, learning_rate);
                state.put(parameter, "exp_avg", mean);
                value
            }
            Self::Muon(muon) if parameter.is_matrix_of_a_layer() => {
                let buffer = state.take(parameter, "momentum_buffer");
                let (value, buffer) = muon.step(parameter.shape, value, gradient, buffer, learning_rate);
                state.put(parameter, "momentum_buffer", buffer);
                value
            }
            Self::Muon(muon) => {
                let scheduled = learning_rate / muon.learning_rate;
                let rate = muon.adamw.learning_rate * scheduled;
                muon.adamw.adamw().update(state, parameter, value, gradient, rate)
            }
            Self::Sgd(sgd) => {
                let buffer = state.take(parameter, "momentum_buffer");
                let (value, buffer) = sgd.step(value, gradient, buffer, learning_rate);
                if let Some(buffer) = buffer {
                    state.put(parameter, "momentum_buffer", buffer);
                }
                value
            }
        }
    }

    /// The state tensors of a parameter, after at least one step.
    pub fn quantities(&self, parameter: Parameter<'_>) -> Vec<Quantity> {
        let elements = parameter.elements();
        match self {
            Self::Adamw(_) => moments(elements),
            Self::Adamw8bit(adamw) if adamw.is_quantized(parameter) => adamw.quantities(elements),
            Self::Adamw8bit(_) => moments(elements),
            Self::Adafactor(adafactor) => adafactor.quantities(parameter),
            Self::Lion(_) => vec![Quantity::floats("exp_avg", elements)],
            Self::Muon(_) if parameter.is_matrix_of_a_layer() => vec![Quantity::floats("momentum_buffer", elements)],
            Self::Muon(_) => moments(elements),
            Self::Sgd(sgd) if sgd.momentum == 0.0 => vec![],
            Self::Sgd(_) => vec![Quantity::floats("momentum_buffer", elements)],
        }
    }
}

fn moments(elements: usize) -> Vec<Quantity> {
    vec![Quantity::floats("exp_avg", elements), Quantity::floats("exp_avg_sq", elements)]
}

impl MuonAdamwRecipe {
    fn adamw(&self) -> AdamwRecipe {
        let Self { learning_rate, betas, eps, weight_decay } = *self;
        AdamwRecipe { learning_rate, betas, eps, weight_decay, ..AdamwRecipe::default() }
    }
}

impl AdamwRecipe {
    fn update(
        &self,
        state: &mut OptimizerState,
        parameter: Parameter<'_>,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        let moments = state.take(parameter, "exp_avg").zip(state.take(parameter, "exp_avg_sq"));
        let moments = moments.map(|(first, second)| Moments { first, second });
        let (value, moments) = self.step(value, gradient, moments, learning_rate, state.steps);
        state.put(parameter, "exp_avg", moments.first);
        state.put(parameter, "exp_avg_sq", moments.second);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebrand_models::parameters::Role;

    use crate::recipe::{AdafactorRecipe, Adamw8bitRecipe, LionRecipe, MuonRecipe, SgdRecipe};

    /// The README's table says these numbers.
    #[test]
    fn bytes_of_state_for_a_large_matrix() {
        let shape = [4096, 4096];
        let parameter = Parameter { path: "p", shape: &shape, role: Role::Map, distance: 1, adapter: None };
        let bytes = |optimizer: Optimizer| {
            let bytes: usize = optimizer.quantities(parameter).iter().map(Quantity::bytes).sum();
            bytes as f64 / parameter.elements() as f64
        };
        assert_eq!(bytes(Optimizer::Adamw(AdamwRecipe::default())), 8.0);
        assert_eq!(bytes(Optimizer::Adamw8bit(Adamw8bitRecipe::default())), 2.03125);
        assert!(bytes(Optimizer::Adafactor(AdafactorRecipe::default())) < 0.002);
        let with_mean = AdafactorRecipe { beta1: Some(0.9), ..AdafactorRecipe::default() };
        assert!(bytes(Optimizer::Adafactor(with_mean)) < 4.002);
        assert_eq!(bytes(Optimizer::Lion(LionRecipe::default())), 4.0);
        assert_eq!(bytes(Optimizer::Muon(MuonRecipe::default())), 4.0);
        assert_eq!(bytes(Optimizer::Sgd(SgdRecipe::default())), 0.0);
        assert_eq!(bytes(Optimizer::Sgd(SgdRecipe { momentum: 0.9, ..SgdRecipe::default() })), 4.0);
    }
}
