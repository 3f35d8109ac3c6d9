//! A parameter as an optimiser sees it, [`Parameter`], and its learning rate, [`LearningRates::of`].
//!
//! LoRA+ (Hayou et al. 2024, arXiv:2402.12354) groups parameters as `peft.optimizers.create_loraplus_optimizer` does:
//! `B` and vectors have a higher rate than `A`, and factors on an embedding have their own rate. All use the
//! optimiser's weight decay.

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
    /// Which tensor of an adapter it is; `None` for a parameter of the base model.
    pub adapter: Option<AdapterTensor>,
}

impl<'a> Parameter<'a> {
    /// The parameter that `info` describes.
    pub fn of(info: &'a ParameterInfo) -> Self {
        Self { path: &info.path, shape: &info.shape, role: info.role, adapter: info.adapter }
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
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
        Parameter { path: "p", shape, role, adapter }
    }

    #[test]
    fn loraplus_is_for_b_and_vectors() {
        let rates = LearningRates { base: 0.5, loraplus: Some(LoraPlus { ratio: 16.0, embedding: 0.25 }) };
        let a = parameter(&[2, 8], Role::Map, Some(AdapterTensor::A));
        let b = parameter(&[8, 2], Role::Map, Some(AdapterTensor::B));
        assert_eq!([a, b].map(|parameter| rates.of(parameter)), [0.5, 8.0]);
        assert_eq!(rates.of(parameter(&[8], Role::Vector, None)), 8.0);
        assert_eq!(rates.of(parameter(&[8, 2], Role::TokenTable, Some(AdapterTensor::EmbeddingB))), 0.25);
        assert_eq!(LearningRates { loraplus: None, ..rates }.of(b), 0.5);
    }

    #[test]
    fn only_matrices_of_layers_are_muons() {
        for adapter in [None, Some(AdapterTensor::A), Some(AdapterTensor::B)] {
            assert!(parameter(&[2, 8], Role::Map, adapter).is_matrix_of_a_layer());
        }
        for (role, shape) in [(Role::TokenTable, &[9, 8][..]), (Role::Head, &[9, 8]), (Role::Vector, &[8])] {
            assert!(!Parameter { path: "p", shape, role, adapter: None }.is_matrix_of_a_layer(), "{role:?}");
        }
    }
}
