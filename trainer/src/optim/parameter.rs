//! A parameter as an optimiser sees it, [`Parameter`], and its learning rate, [`LearningRates::of`].
//!
//! LoRA+ (Hayou et al. 2024, arXiv:2402.12354) groups parameters as `peft.optimizers.create_loraplus_optimizer` does:
//! `B` and vectors have a higher rate than `A`, and factors on an embedding have their own rate. All use the
//! optimiser's weight decay.
//!
//! `optimizer.layer_decay` `f` multiplies the rate of a parameter at distance `d` from the output by `f^d`, as BEiT (Bao et al. 2021,
//! arXiv:2106.08254, `optim_factory.py`) and timm do: blocks count from the last one, which has distance 1, and embeddings lie one
//! further than the first block. `optimizer.no_decay` leaves norms and biases out of the decay, by the rule of transformers'
//! `Trainer.get_decay_parameter_names`; tensors of adapters decay.

use firebrand_adapters::AdapterTensor;
use firebrand_models::parameters::{ParameterInfo, Role};

/// The description of a parameter, without its value.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'a> {
    /// Its path in the model, under which its optimiser state is kept.
    pub path: &'a str,
    /// Its shape. Optimisers are given the values flat.
    pub shape: &'a [usize],
    /// What it is for. For an adapter's tensor: what the adapted matrix is for.
    pub role: Role,
    /// How far it is from the output ([`ParameterInfo::distance`]).
    pub distance: usize,
    /// Which tensor of an adapter it is; `None` for a parameter of the base model.
    pub adapter: Option<AdapterTensor>,
}

impl<'a> Parameter<'a> {
    /// The parameter that `info` describes.
    pub fn of(info: &'a ParameterInfo) -> Self {
        let ParameterInfo { path, shape, role, distance, adapter } = info;
        Self { path, shape, role: *role, distance: *distance, adapter: *adapter }
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it is a norm or bias of the base model.
    pub(super) fn is_norm_or_bias(&self) -> bool {
        self.adapter.is_none() && matches!(self.role, Role::Norm | Role::Bias)
    }

    /// Whether it is a matrix of a transformer block, adapters included: Muon updates these.
    pub(super) fn is_matrix_of_a_layer(&self) -> bool {
        self.shape.len() == 2 && self.role.is_matrix_of_block()
    }
}

/// The learning rates of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRates {
    /// The optimiser's rate, after the schedule.
    pub base: f64,
    /// The rates of LoRA+; without them all parameters have the same rate.
    pub loraplus: Option<LoraPlus>,
    /// Factor for each step away from the output.
    pub layer_decay: f64,
}

/// The rates of LoRA+.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraPlus {
    /// Factor on the rate of an adapter's `B` and of every vector.
    pub ratio: f64,
    /// Rate of both factors on an embedding, after the schedule.
    pub embedding: f64,
}

impl LearningRates {
    /// The rate of one parameter.
    pub fn of(&self, parameter: Parameter<'_>) -> f64 {
        self.of_group(parameter) * self.layer_decay.powi(parameter.distance as i32)
    }

    fn of_group(&self, parameter: Parameter<'_>) -> f64 {
        let Some(loraplus) = self.loraplus else { return self.base };
        match parameter.adapter {
            Some(_) if parameter.role == Role::TokenTable => loraplus.embedding,
            Some(tensor) if tensor.is_b() => self.base * loraplus.ratio,
            Some(_) | None if parameter.shape.len() == 1 => self.base * loraplus.ratio,
            Some(_) | None => self.base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(shape: &'static [usize], role: Role, adapter: Option<AdapterTensor>) -> Parameter<'static> {
        Parameter { path: "p", shape, role, distance: 2, adapter }
    }

    #[test]
    fn loraplus_is_for_b_and_vectors() {
        let loraplus = Some(LoraPlus { ratio: 16.0, embedding: 0.25 });
        let rates = LearningRates { base: 0.5, loraplus, layer_decay: 1.0 };
        let a = parameter(&[2, 8], Role::Map, Some(AdapterTensor::A));
        let b = parameter(&[8, 2], Role::Map, Some(AdapterTensor::B));
        assert_eq!([a, b].map(|parameter| rates.of(parameter)), [0.5, 8.0]);
        assert_eq!(rates.of(parameter(&[8], Role::Norm, None)), 8.0);
        assert_eq!(rates.of(parameter(&[8, 2], Role::TokenTable, Some(AdapterTensor::EmbeddingB))), 0.25);
        assert_eq!(LearningRates { loraplus: None, ..rates }.of(b), 0.5);
        assert_eq!(LearningRates { layer_decay: 0.5, ..rates }.of(b), 2.0);
    }

    #[test]
    fn the_rate_falls_from_the_output_to_the_embeddings() {
        let rates = LearningRates { base: 1e-3, loraplus: None, layer_decay: 0.5 };
        let at = |distance| rates.of(Parameter { distance, ..parameter(&[8, 2], Role::Map, None) });
        assert_eq!([0, 1, 2, 3].map(at), [1e-3, 5e-4, 2.5e-4, 1.25e-4]);
    }

    #[test]
    fn norms_and_biases_of_the_base_are_not_decayed() {
        let is = |role, adapter| parameter(&[8], role, adapter).is_norm_or_bias();
        assert!(is(Role::Norm, None) && is(Role::Bias, None));
        assert!(!is(Role::Vector, None) && !is(Role::Map, None) && !is(Role::Head, None));
        assert!(!is(Role::Map, Some(AdapterTensor::Magnitude)));
    }

    #[test]
    fn only_matrices_of_layers_are_muons() {
        for adapter in [None, Some(AdapterTensor::A), Some(AdapterTensor::B)] {
            assert!(parameter(&[2, 8], Role::Map, adapter).is_matrix_of_a_layer());
        }
        for (role, shape) in [(Role::TokenTable, &[9, 8][..]), (Role::Head, &[9, 8]), (Role::Norm, &[8])] {
            assert!(!parameter(shape, role, None).is_matrix_of_a_layer(), "{role:?}");
        }
    }
}
