//! The methods, as one sum type.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use crate::{
    AdapterError, AdapterTensor, Dora, Linear, Lora, LoraConfig, LoraFactors, Mode, ModulePattern, Targets, dora,
};

/// What changes one linear map. A variant is a file of its own.
#[derive(Module, Debug)]
pub enum Adapter {
    /// Low-rank additive update.
    Lora(Lora),
    /// Low-rank update of the direction, and a magnitude.
    Dora(Dora),
}

/// How the adapters of a run are made.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterConfig {
    /// Low-rank additive updates.
    Lora(LoraConfig),
    /// The same of directions, with magnitudes.
    Dora(LoraConfig),
}

/// Values of one adapter's tensors, row-major.
pub type AdapterValues = BTreeMap<AdapterTensor, Vec<f32>>;

/// Tensors of one adapter with their shapes.
pub(crate) type Shapes = Vec<(AdapterTensor, Vec<usize>)>;

impl Adapter {
    /// The adapted map of `x`, bias included: `x` is `[batch, time, in]`, the result `[batch, time, out]`.
    pub(crate) fn project(&self, x: Tensor<3>, mode: Mode, base: &Linear) -> Tensor<3> {
        match self {
            Self::Lora(lora) => base.with_bias(base.product(x.clone())) + lora.forward(x, mode),
            Self::Dora(dora) => dora.project(x, mode, base),
        }
    }

    /// The dense weight `[out, in]` that has the same effect in inference, made from the base's `weight` in f32.
    pub fn apply(&self, weight: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Lora(lora) => weight + lora.delta(),
            Self::Dora(dora) => dora.apply(weight),
        }
    }

    /// The tensors of its file, with shape and values.
    pub fn tensors(&self) -> Vec<(AdapterTensor, Vec<usize>, Vec<f32>)> {
        match self {
            Self::Lora(Lora { a, b, .. }) => vec![file(AdapterTensor::A, a), file(AdapterTensor::B, b)],
            Self::Dora(Dora { a, b, magnitude, .. }) => {
                vec![file(AdapterTensor::A, a), file(AdapterTensor::B, b), file(AdapterTensor::Magnitude, magnitude)]
            }
        }
    }
}

impl AdapterConfig {
    /// The word recipes have for the method.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lora(_) => "lora",
            Self::Dora(_) => "dora",
        }
    }

    /// The modules to adapt.
    pub fn targets(&self) -> &Targets {
        match self {
            Self::Lora(lora) | Self::Dora(lora) => &lora.targets,
        }
    }

    /// The modules to leave out.
    pub fn exclude(&self) -> Option<&ModulePattern> {
        match self {
            Self::Lora(lora) | Self::Dora(lora) => lora.exclude.as_ref(),
        }
    }

    /// The paths to adapt of `modules`, which are the linear maps that could be.
    ///
    /// # Errors
    /// A pattern that does not compile or selects nothing.
    pub fn select(&self, modules: &[String]) -> Result<Vec<String>, AdapterError> {
        self.targets().select(modules, self.exclude())
    }

    /// Tensors of the adapter on the module at `path` with weight `[out, in]`, and their shapes in files.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn shapes(&self, path: &str, shape: [usize; 2]) -> Result<Vec<(AdapterTensor, Vec<usize>)>, AdapterError> {
        match self {
            Self::Lora(lora) => lora.shapes(path, shape),
            Self::Dora(lora) => {
                Ok(lora.shapes(path, shape)?.into_iter().chain([LoraConfig::magnitude_shape(shape)]).collect())
            }
        }
    }

    /// The starting values of the adapter on `base`, the module at `path`.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn initial(&self, seed: u64, path: &str, base: &Linear) -> Result<AdapterValues, AdapterError> {
        match self {
            Self::Lora(lora) => Ok(lora.initial(seed, path, base.shape())?.into()),
            Self::Dora(lora) => Ok(dora::initial(lora.initial(seed, path, base.shape())?.into(), base)),
        }
    }

    /// The trainable adapter on `base`, the module at `path`, with values of [`Self::shapes`].
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn build(
        &self,
        path: &str,
        base: &Linear,
        mut values: AdapterValues,
        device: &Device,
    ) -> Result<Adapter, AdapterError> {
        let magnitude = values.remove(&AdapterTensor::Magnitude).unwrap_or_default();
        let factors = LoraFactors::from(&mut values);
        match self {
            Self::Lora(lora) => Ok(Adapter::Lora(lora.build(path, base.shape(), factors, device)?)),
            Self::Dora(lora) => {
                Ok(Adapter::Dora(Dora::new(lora.build(path, base.shape(), factors, device)?, magnitude, base)))
            }
        }
    }
}

fn file<const D: usize>(tensor: AdapterTensor, value: &Param<Tensor<D>>) -> (AdapterTensor, Vec<usize>, Vec<f32>) {
    (tensor, value.lazy_shape().to_vec(), value.val().into_data().iter::<f32>().collect())
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    fn base(device: &Device) -> Linear {
        let weight = Param::from_data(TensorData::new(numbers(30, 0.9), [5, 6]), device);
        Linear::new(weight, Some(Param::from_data(TensorData::new(numbers(5, 0.3), [5]), device)))
    }

    /// Every method, on a map with weight `[5, 6]`.
    fn methods() -> Vec<AdapterConfig> {
        let lora = LoraConfig {
            rank: 2,
            alpha: 3.0,
            dropout: 0.5,
            rslora: false,
            targets: Targets::AllLinear,
            exclude: None,
            rank_pattern: vec![],
            alpha_pattern: vec![],
        };
        vec![AdapterConfig::Lora(lora.clone()), AdapterConfig::Dora(lora)]
    }

    fn built(method: &AdapterConfig, values: Option<AdapterValues>, device: &Device) -> Linear {
        let mut linear = base(device);
        let values = values.unwrap_or_else(|| method.initial(1, "q", &linear).unwrap());
        linear.attach(method.build("q", &linear, values, device).unwrap());
        linear
    }

    /// As after some training.
    fn moved(method: &AdapterConfig) -> AdapterValues {
        let shapes = method.shapes("q", [5, 6]).unwrap().into_iter();
        shapes.map(|(tensor, shape)| (tensor, numbers(shape.iter().product(), 1.7 + tensor as u8 as f32))).collect()
    }

    fn outputs(linear: &Linear, mode: Mode) -> Vec<f32> {
        let x = Tensor::<3>::from_data(TensorData::new(numbers(24, 1.1), [2, 2, 6]), &Device::flex());
        linear.forward(x, mode).into_data().try_to_vec().unwrap()
    }

    fn assert_near(method: &AdapterConfig, left: &[f32], right: &[f32]) {
        for (left, right) in left.iter().zip(right) {
            assert!((left - right).abs() < 1e-5, "{}: {left} {right}", method.kind());
        }
    }

    #[test]
    fn every_method_starts_as_the_base() {
        let device = Device::flex();
        for method in methods() {
            let adapted = built(&method, None, &device);
            assert_near(&method, &outputs(&adapted, Mode::Inference), &outputs(&base(&device), Mode::Inference));
        }
    }

    #[test]
    fn projecting_is_the_product_with_the_applied_weight() {
        let device = Device::flex();
        for method in methods() {
            let mut linear = built(&method, Some(moved(&method)), &device);
            let adapted = outputs(&linear, Mode::Inference);
            linear.merge();
            assert!(linear.adapter().is_none());
            let merged = outputs(&linear, Mode::Inference);
            assert_near(&method, &adapted, &merged);
            let apart = |other: &[f32]| adapted.iter().zip(other).map(|(l, r)| (l - r).abs()).fold(0.0, f32::max);
            assert!(apart(&outputs(&base(&device), Mode::Inference)) > 0.1, "{} does nothing", method.kind());
        }
    }

    #[test]
    fn tensors_are_those_it_was_built_from() {
        let device = Device::flex();
        for method in methods() {
            let linear = built(&method, Some(moved(&method)), &device);
            let found = linear.adapter().unwrap().tensors();
            let shapes: Vec<_> = found.iter().map(|(tensor, shape, _)| (*tensor, shape.clone())).collect();
            assert_eq!(shapes, method.shapes("q", [5, 6]).unwrap());
            let values: AdapterValues = found.into_iter().map(|(tensor, _, values)| (tensor, values)).collect();
            assert_eq!(values, moved(&method));
        }
    }

    #[test]
    fn dropout_acts_on_the_adapter_only() {
        let device = Device::flex();
        for method in methods() {
            let training = Mode::Training { key: 3, first_row: 0 };
            let moved = built(&method, Some(moved(&method)), &device);
            assert_ne!(outputs(&moved, training), outputs(&moved, Mode::Inference), "{}", method.kind());
            let fresh = built(&method, None, &device);
            assert_near(&method, &outputs(&fresh, training), &outputs(&base(&device), Mode::Inference));
        }
    }
}
