//! The linear map of every model: `y = x W^T + b`, plus what an adapter adds.
//!
//! The weight has the layout of the files, `[out, in]`, so loading and saving never transpose. A frozen weight may be
//! held in bf16 or f16; the product is f32 either way.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use firebrand_kernels::linear;

use crate::{Adapter, Mode};

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
        match &self.adapter {
            Some(adapter) => adapter.project(x, mode, self),
            None => self.with_bias(self.product(x)),
        }
    }

    /// `x W^T` with the base weight alone.
    pub(crate) fn product(&self, x: Tensor<3>) -> Tensor<3> {
        linear(x, self.weight.val())
    }

    /// `y` and the bias.
    pub(crate) fn with_bias(&self, y: Tensor<3>) -> Tensor<3> {
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }

    /// The base weight, row-major.
    pub(crate) fn values(&self) -> Vec<f32> {
        self.weight.val().into_data().iter::<f32>().collect()
    }

    /// The sum of squares of every row of the base weight, `[out]`.
    pub(crate) fn row_squares(&self) -> Vec<f32> {
        let [_, input] = self.shape();
        let values = self.values();
        let square = |row: &[f32]| row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() as f32;
        values.chunks(input.max(1)).map(square).collect()
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.weight.lazy_shape().dims()
    }

    /// The adapter, if there is one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Takes the adapter off.
    pub fn detach(&mut self) -> Option<Adapter> {
        self.adapter.take()
    }

    /// Puts an adapter on this map, in place of any other.
    pub fn attach(&mut self, adapter: Adapter) {
        self.adapter = Some(adapter);
    }

    /// Folds the adapter into the weight, in f32, and removes it.
    pub fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            self.weight = self.weight.clone().map(|weight| adapter.apply(weight.cast(DType::F32)));
            self.bias = self.bias.take().map(|bias| bias.map(|bias| adapter.apply_to_bias(bias)));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::{LoraConfig, LoraFactors, LoraInit, Targets};

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
            layers: None,
            init: LoraInit::Kaiming,
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
