//! The linear map of every model: `y = x W^T + b`, plus what an adapter adds.
//!
//! The weight has the layout of the files, `[out, in]`, so loading and saving never transpose. A frozen weight may be
//! held in bf16 or f16; the product is f32 either way.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use firebrand_kernels::linear;

use crate::{Adapter, Mode, Place};

/// A weight `[out, in]`, an optional bias `[out]`, and an optional adapter.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
    adapter: Option<Adapter>,
}

impl Linear {
    /// A dense map without an adapter.
    pub fn new(weight: Param<Tensor<2>>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { weight, bias, adapter: None }
    }

    /// `x` is `[batch, time, in]`, the result `[batch, time, out]`.
    pub fn forward(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        self.apply(x, mode, None)
    }

    /// Some tokens of a micro-batch in any order: `x` is `[1, tokens, in]`, and `places` says which they are, so that dropout
    /// does not depend on their order.
    pub fn forward_at(&self, x: Tensor<3>, mode: Mode, places: &[Place]) -> Tensor<3> {
        self.apply(x, mode, Some(places))
    }

    fn apply(&self, x: Tensor<3>, mode: Mode, places: Option<&[Place]>) -> Tensor<3> {
        let mut y = linear(x.clone(), self.weight.val());
        if let Some(bias) = &self.bias {
            y = y + bias.val().unsqueeze();
        }
        match &self.adapter {
            Some(adapter) => y + adapter.forward(x, mode, places),
            None => y,
        }
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.weight.lazy_shape().dims()
    }

    /// The adapter, if there is one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Puts an adapter on this map, in place of any other.
    pub fn attach(&mut self, adapter: Adapter) {
        self.adapter = Some(adapter);
    }

    /// Folds the adapter into the weight, in f32, and removes it.
    pub fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            let delta = adapter.delta();
            self.weight = self.weight.clone().map(|weight| weight.cast(delta.dtype()) + delta);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::{LoraConfig, LoraFactors, Targets};

    fn matrix(rows: usize, columns: usize, seed: f32) -> Vec<f32> {
        (0..rows * columns).map(|i| (i as f32 * seed).sin()).collect()
    }

    fn adapted(device: &Device) -> Linear {
        let weight = Param::from_data(TensorData::new(matrix(5, 6, 0.9), [5, 6]), device);
        let bias = Param::from_data(TensorData::new(matrix(1, 5, 0.3), [5]), device);
        let mut linear = Linear::new(weight, Some(bias));
        let config = LoraConfig {
            rank: 2,
            alpha: 3.0,
            dropout: 0.0,
            rslora: false,
            targets: Targets::AllLinear,
            exclude: None,
            rank_pattern: vec![],
            alpha_pattern: vec![],
        };
        let factors = LoraFactors { a: matrix(2, 6, 0.4), b: matrix(5, 2, 0.7) };
        linear.attach(Adapter::Lora(config.build("q", [5, 6], factors, device).unwrap()));
        linear
    }

    #[test]
    fn merging_keeps_the_outputs() {
        let device = Device::flex();
        let x = Tensor::<3>::from_data(TensorData::new(matrix(4, 6, 1.1), [2, 2, 6]), &device);
        let mut linear = adapted(&device);
        let before: Vec<f32> = linear.forward(x.clone(), Mode::Inference).into_data().try_to_vec().unwrap();
        linear.merge();
        assert!(linear.adapter().is_none());
        let after: Vec<f32> = linear.forward(x, Mode::Inference).into_data().try_to_vec().unwrap();
        for (left, right) in before.iter().zip(&after) {
            assert!((left - right).abs() < 1e-5, "{left} {right}");
        }
    }
}
