//! [`Linear`]: the linear map of every model, `y = x W^T + b`, plus the effect of an adapter.
//!
//! The weight has the layout of files, `[out, in]`, so loading and saving never transpose. A frozen weight may be held
//! in bf16 or f16, or quantized to 4 or 8 bits; the product is f32 in every case.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use firebrand_kernels::{Precision, QuantizationError, QuantizationScheme, QuantizedWeight};

use crate::weight::Weight;
use crate::{Adapter, Mode, Place};

/// A weight `[out, in]`, an optional bias `[out]`, and an optional adapter.
#[derive(Module, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Param<Tensor<1>>>,
    adapter: Option<Adapter>,
    #[module(skip)]
    precision: Precision,
}

impl Linear {
    /// A dense map without an adapter.
    pub fn new(weight: Param<Tensor<2>>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { weight: Weight::Dense(weight), bias, adapter: None, precision: Precision::F32 }
    }

    /// A map with a frozen quantized weight, without an adapter.
    pub fn quantized(weight: Arc<QuantizedWeight>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { weight: Weight::quantized(weight), bias, adapter: None, precision: Precision::F32 }
    }

    /// Sets in which numbers products with the weight, and those of a low-rank update beside it, read their operands; f32 if it is never
    /// called. Other adapters compute in f32.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// `x` is `[batch, time, in]`, the result `[batch, time, out]`.
    pub fn forward(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        self.run(x, mode, None)
    }

    /// As [`Self::forward`] for some tokens of a micro-batch in any order: `x` is `[1, tokens, in]`, and `places` gives
    /// the position of each, so that dropout does not depend on their order.
    pub fn forward_at(&self, x: Tensor<3>, mode: Mode, places: &[Place]) -> Tensor<3> {
        self.run(x, mode, Some(places))
    }

    fn run(&self, x: Tensor<3>, mode: Mode, places: Option<&[Place]>) -> Tensor<3> {
        match &self.adapter {
            Some(adapter) => adapter.project(x, mode, places, self),
            None => self.biased_product(x),
        }
    }

    /// `x W^T` with the base weight, without the adapter.
    pub(crate) fn product(&self, x: Tensor<3>) -> Tensor<3> {
        self.weight.product(x, None, self.precision)
    }

    /// [`Self::product`] plus the bias.
    pub(crate) fn biased_product(&self, x: Tensor<3>) -> Tensor<3> {
        self.weight.product(x, self.bias.as_ref().map(Param::val), self.precision)
    }

    /// [`Self::biased_product`] plus `scale (x A^T) B^T`, in one operation.
    pub(crate) fn biased_product_beside(&self, x: Tensor<3>, factors: [Tensor<2>; 2], scale: f64) -> Tensor<3> {
        self.weight.product_beside(x, factors, self.bias.as_ref().map(Param::val), scale, self.precision)
    }

    /// Adds the bias to `y`.
    pub(crate) fn with_bias(&self, y: Tensor<3>) -> Tensor<3> {
        match &self.bias {
            Some(bias) => y + bias.val().unsqueeze(),
            None => y,
        }
    }

    /// The values of the base weight, row-major.
    pub(crate) fn values(&self) -> Vec<f32> {
        self.weight.values()
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
        self.weight.shape()
    }

    /// The quantized weight, if the map has one.
    pub fn quantized_weight(&self) -> Option<&Arc<QuantizedWeight>> {
        self.weight.as_quantized()
    }

    /// Replaces a quantized weight by its dequantized form on `device`; a dense weight is not changed.
    pub fn dequantize(&mut self, device: &Device) {
        if self.weight.as_quantized().is_some() {
            self.weight = self.weight.changed(device, |weight| weight);
        }
    }

    /// Adds a quantization error to the weight, to measure what quantization costs. A dense weight is quantized. The
    /// values of a quantized weight are already values of its code, so it is quantized along its columns, where other
    /// values share a scale, and is dense afterwards.
    ///
    /// # Errors
    /// A block size that the format does not have, a value that is not finite.
    pub fn quantize_anew(&mut self, scheme: QuantizationScheme, device: &Device) -> Result<(), QuantizationError> {
        self.weight = match self.weight.as_quantized() {
            None => {
                let values = TensorData::new(self.values(), self.shape());
                Weight::quantized(Arc::new(QuantizedWeight::quantize(&values, scheme)?))
            }
            Some(weight) => {
                let columns = QuantizedWeight::quantize(&weight.dequantize(device).transpose().into_data(), scheme)?;
                Weight::Dense(Param::from_tensor(columns.dequantize(device).transpose()))
            }
        };
        Ok(())
    }

    /// The adapter, if there is one.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Removes the adapter and returns it.
    pub fn detach(&mut self) -> Option<Adapter> {
        self.adapter.take()
    }

    /// Puts an adapter on this map, replacing any other.
    pub fn attach(&mut self, adapter: Adapter) {
        self.adapter = Some(adapter);
    }

    /// Merges the adapter into the weight, in f32, and removes it. An adapter on a quantized weight was trained with
    /// the dequantized weight, so it is merged into that, and the map is dense afterwards.
    pub fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            let device = adapter.device();
            self.weight = self.weight.changed(&device, |weight| adapter.apply(weight));
            self.bias = self.bias.take().map(|bias| bias.map(|bias| adapter.apply_to_bias(bias)));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleMapper, ModuleVisitor, ParamId};

    use super::*;
    use crate::{LoraConfig, LoraFactors, Targets};

    fn matrix(rows: usize, columns: usize, seed: f32) -> Vec<f32> {
        (0..rows * columns).map(|i| (i as f32 * seed).sin()).collect()
    }

    fn bias(device: &Device) -> Option<Param<Tensor<1>>> {
        Some(Param::from_data(TensorData::new(matrix(1, 5, 0.3), [5]), device))
    }

    fn with_adapter(mut linear: Linear, device: &Device) -> Linear {
        let config = LoraConfig::new(2, 3.0, Targets::AllLinear);
        let factors = LoraFactors { a: matrix(2, 6, 0.4), b: matrix(5, 2, 0.7) };
        linear.attach(Adapter::Lora(config.build("q", [5, 6], factors, device).unwrap()));
        linear
    }

    fn dense(device: &Device) -> Linear {
        Linear::new(Param::from_data(TensorData::new(matrix(5, 6, 0.9), [5, 6]), device), bias(device))
    }

    fn quantized(device: &Device) -> Linear {
        let weight =
            QuantizedWeight::quantize(&TensorData::new(matrix(5, 6, 0.9), [5, 6]), QuantizationScheme::NF4).unwrap();
        Linear::quantized(Arc::new(weight), bias(device))
    }

    fn input(device: &Device) -> Tensor<3> {
        Tensor::from_data(TensorData::new(matrix(4, 6, 1.1), [2, 2, 6]), device)
    }

    fn outputs(linear: &Linear) -> Vec<f32> {
        linear.forward(input(&Device::flex()), Mode::Inference).into_data().try_to_vec().unwrap()
    }

    #[test]
    fn merging_keeps_the_outputs() {
        let device = Device::flex();
        for base in [dense(&device), quantized(&device)] {
            let mut linear = with_adapter(base.clone(), &device);
            let before = outputs(&linear);
            assert_ne!(before, outputs(&base));
            linear.merge();
            assert!(linear.adapter().is_none() && linear.quantized_weight().is_none());
            for (left, right) in before.iter().zip(&outputs(&linear)) {
                assert!((left - right).abs() < 1e-5, "{left} {right}");
            }
        }
    }

    #[test]
    fn a_quantized_map_equals_its_dequantized_one() {
        let device = Device::flex();
        let mut linear = quantized(&device);
        assert_eq!(linear.shape(), [5, 6]);
        let before = outputs(&linear);
        assert_ne!(before, outputs(&dense(&device)));
        linear.dequantize(&device);
        assert!(linear.quantized_weight().is_none());
        assert_eq!((linear.shape(), outputs(&linear)), ([5, 6], before));
    }

    #[test]
    fn scheme_anew_disturbs_a_weight_that_is_quantized_about_as_much_as_one_that_is_not() {
        let device = Device::flex();
        let distance = |before: &[f32], linear: &Linear| -> f32 {
            before.iter().zip(linear.values()).map(|(left, right)| (left - right).powi(2)).sum::<f32>().sqrt()
        };
        // Like real weights: many blocks with different scales.
        let shape = [48, 96];
        let mut random = crate::stream(1, "weight");
        let values: Vec<f32> = (0..48 * 96).map(|_| crate::normal(&mut random) as f32).collect();
        let mut dense = Linear::new(Param::from_data(TensorData::new(values, shape), &device), None);
        let mut quantized = dense.clone();
        quantized.quantize_anew(QuantizationScheme::NF4, &device).unwrap();
        let (values, again) = (dense.values(), quantized.values());
        dense.quantize_anew(QuantizationScheme::NF4, &device).unwrap();
        quantized.quantize_anew(QuantizationScheme::NF4, &device).unwrap();
        assert!(dense.quantized_weight().is_some() && dense.values() == again);
        assert!(quantized.quantized_weight().is_none() && quantized.shape() == shape);
        let (once, twice) = (distance(&values, &dense), distance(&again, &quantized));
        assert!(once > 0.0 && twice > 0.5 * once && twice < 2.0 * once, "{once} {twice}");
    }

    /// Names and shapes of the parameters that a walk finds.
    fn walk(linear: &Linear) -> Vec<(String, Vec<usize>)> {
        #[derive(Default)]
        struct Walk {
            path: Vec<String>,
            found: Vec<(String, Vec<usize>)>,
        }
        impl ModuleVisitor for Walk {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.path.push(if container.starts_with("Enum:") { String::new() } else { format!("/{name}") });
            }
            fn exit_module(&mut self, _name: &str, _container: &str) {
                self.path.pop();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.found.push((self.path.concat(), param.lazy_shape().to_vec()));
            }
        }
        let mut walk = Walk::default();
        linear.visit(&mut walk);
        walk.found
    }

    #[test]
    fn walks_meet_a_dense_weight_by_its_name_and_pass_a_quantized_one_by() {
        let device = Device::flex();
        let named = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
        assert_eq!(walk(&dense(&device)), [named("/weight", &[5, 6]), named("/bias", &[5])]);
        assert_eq!(walk(&quantized(&device)), [named("/bias", &[5])]);
    }

    #[test]
    fn a_quantized_weight_goes_through_all_that_modules_do() {
        struct Same;
        impl ModuleMapper for Same {}
        let device = Device::flex();
        let start = quantized(&device);
        let handle = start.quantized_weight().unwrap().clone();
        let expected = outputs(&start);
        let trained = start.clone().train();
        let passed = [
            start.clone().map(&mut Same),
            start.clone().to_device(&device),
            start.clone().no_grad(),
            trained.valid(),
            start,
        ];
        for linear in passed {
            assert!(Arc::ptr_eq(linear.quantized_weight().unwrap(), &handle));
            assert_eq!(outputs(&linear), expected);
        }
    }

    #[test]
    fn gradients_pass_a_quantized_weight_to_the_input_and_the_adapter() {
        let device = Device::flex().autodiff();
        let linear = with_adapter(quantized(&device), &device);
        let mut same = linear.clone();
        same.dequantize(&device);
        let gradients = |linear: &Linear| {
            let x = input(&device).require_grad();
            let grads = linear.forward(x.clone(), Mode::Inference).powi_scalar(2).sum().backward();
            let Some(Adapter::Lora(lora)) = linear.adapter() else { panic!("no adapter") };
            let values = |data: TensorData| data.try_to_vec::<f32>().unwrap();
            [
                values(x.grad(&grads).unwrap().into_data()),
                values(lora.a.val().grad(&grads).unwrap().into_data()),
                values(lora.b.val().grad(&grads).unwrap().into_data()),
            ]
        };
        assert_eq!(gradients(&linear), gradients(&same));
    }

    #[test]
    fn merging_keeps_the_identity_of_a_dense_weight() {
        let device = Device::flex();
        let id = |linear: &Linear| -> ParamId {
            let Weight::Dense(weight) = &linear.weight else { panic!("quantized") };
            weight.id
        };
        let mut linear = with_adapter(dense(&device), &device);
        let before = id(&linear);
        linear.merge();
        assert_eq!(id(&linear), before);
    }
}
