//! One optimiser over all trained parameters, and its state by name.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use super::adamw::Moments;
use crate::recipe::Optimizer;

/// What an optimiser remembers: flat f32 tensors by `{parameter}.{quantity}`, and the number of steps done.
#[derive(Debug, Clone, Default)]
pub struct OptimizerState {
    /// Steps done.
    pub steps: u64,
    tensors: BTreeMap<String, Tensor<1>>,
}

impl Optimizer {
    /// Updates one flat parameter. Call once a parameter between two calls of [`OptimizerState::begin_step`].
    pub fn update(
        &self,
        state: &mut OptimizerState,
        path: &str,
        value: Tensor<1>,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) -> Tensor<1> {
        match self {
            Self::Adamw(adamw) => {
                let moments = state.take(path, "exp_avg").zip(state.take(path, "exp_avg_sq"));
                let moments = moments.map(|(first, second)| Moments { first, second });
                let (value, moments) = adamw.step(value, gradient, moments, learning_rate, state.steps);
                state.put(path, "exp_avg", moments.first);
                state.put(path, "exp_avg_sq", moments.second);
                value
            }
            Self::Sgd(sgd) => {
                let buffer = state.take(path, "momentum_buffer");
                let (value, buffer) = sgd.step(value, gradient, buffer, learning_rate);
                if let Some(buffer) = buffer {
                    state.put(path, "momentum_buffer", buffer);
                }
                value
            }
        }
    }

    /// The names of the tensors kept for a parameter, after at least one step.
    pub fn quantities(&self) -> &'static [&'static str] {
        match self {
            Self::Adamw(_) => &["exp_avg", "exp_avg_sq"],
            Self::Sgd(sgd) if sgd.momentum == 0.0 => &[],
            Self::Sgd(_) => &["momentum_buffer"],
        }
    }
}

impl OptimizerState {
    /// The state after `steps` steps, its tensors to be put back by [`Self::import`].
    pub fn after(steps: u64) -> Self {
        Self { steps, tensors: BTreeMap::new() }
    }

    /// Counts a step; its updates follow.
    pub fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// All tensors by name, as host values.
    pub fn export(&self) -> impl Iterator<Item = (&str, TensorData)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.to_data()))
    }

    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Puts back a tensor that [`Self::export`] gave.
    pub fn import(&mut self, name: String, values: Vec<f32>, device: &Device) {
        let length = values.len();
        self.tensors.insert(name, Tensor::from_data(TensorData::new(values, [length]), device));
    }

    fn take(&mut self, path: &str, quantity: &str) -> Option<Tensor<1>> {
        self.tensors.remove(&format!("{path}.{quantity}"))
    }

    fn put(&mut self, path: &str, quantity: &str, value: Tensor<1>) {
        self.tensors.insert(format!("{path}.{quantity}"), value);
    }
}
