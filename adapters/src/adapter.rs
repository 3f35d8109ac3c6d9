//! The adapter methods as sum types: [`Adapter`] is an adapter on a linear map, [`AdapterConfig`] how a run makes them.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::{
    AdapterError, AdapterTensor, Dora, Ia3, Ia3Config, Layers, Linear, Lora, LoraConfig, LoraFactors, LoraInit, Mode,
    ModulePattern, Place, Targets, TrainedBase, dora,
};

/// An adapter on one linear map. Each variant has a file of its own.
#[derive(Module, Debug)]
pub enum Adapter {
    /// LoRA: an additive update of low rank.
    Lora(Lora),
    /// DoRA: a low-rank update of the direction, and a magnitude.
    Dora(Dora),
    /// IA3: factors on inputs or outputs.
    Ia3(Ia3),
}

/// How the adapters of a run are made.
#[derive(Debug, Clone, PartialEq)]
pub enum AdapterConfig {
    /// LoRA adapters.
    Lora(LoraConfig),
    /// DoRA adapters.
    Dora(LoraConfig),
    /// IA3 adapters.
    Ia3(Ia3Config),
}

/// Values of one adapter's tensors by tensor, row-major.
pub type AdapterValues = BTreeMap<AdapterTensor, Vec<f32>>;

/// Tensors of one adapter with their shapes.
pub(crate) type Shapes = Vec<(AdapterTensor, Vec<usize>)>;

impl Adapter {
    /// The adapted map of `x`, with the bias: `x` is `[batch, time, in]`, the result `[batch, time, out]`. For `places`
    /// see [`Linear::forward_at`].
    pub(crate) fn project(&self, x: Tensor<3>, mode: Mode, places: Option<&[Place]>, base: &Linear) -> Tensor<3> {
        match self {
            Self::Lora(lora) => lora.project(x, mode, places, base),
            Self::Dora(dora) => dora.project(x, mode, places, base),
            Self::Ia3(ia3) => ia3.project(x, base),
        }
    }

    /// The device of its parameters.
    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Lora(lora) => lora.a.lazy_device(),
            Self::Dora(dora) => dora.a.lazy_device(),
            Self::Ia3(ia3) => ia3.device(),
        }
    }

    /// The dense weight `[out, in]` with the same effect in inference, computed from the base's `weight` in f32.
    pub fn apply(&self, weight: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Lora(lora) => weight + lora.delta(),
            Self::Dora(dora) => dora.apply(weight),
            Self::Ia3(ia3) => ia3.apply(weight),
        }
    }

    /// The bias with the same effect, computed from the base's bias.
    pub(crate) fn apply_to_bias(&self, bias: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Lora(_) | Self::Dora(_) => bias,
            Self::Ia3(ia3) => ia3.apply_to_bias(bias),
        }
    }

    /// Combines this adapter with another one on the same map, for inference.
    ///
    /// # Errors
    /// Methods other than LoRA: their combined effect depends on their order.
    pub fn beside(&self, other: &Self) -> Result<Self, AdapterError> {
        match (self, other) {
            (Self::Lora(left), Self::Lora(right)) if left.makes_up_for_base() || right.makes_up_for_base() => {
                Err(AdapterError::Several {
                    problem:
                        "an adapter that started by loftq holds what its quantized base lost, so it is alone there; use \
                              several on the original weights with --base original"
                            .into(),
                })
            }
            (Self::Lora(left), Self::Lora(right)) => Ok(Self::Lora(left.beside(right))),
            _ => Err(AdapterError::Several {
                problem: "several adapters on one model must all be LoRA; fold one of them into the base with `merge`"
                    .into(),
            }),
        }
    }

    /// The tensors of its file, with shapes and values.
    pub fn tensors(&self) -> Vec<(AdapterTensor, Vec<usize>, Vec<f32>)> {
        match self {
            Self::Lora(lora) => lora.tensors(),
            Self::Dora(dora) => dora.tensors(),
            Self::Ia3(ia3) => ia3.tensors(),
        }
    }

    /// Its parameters, with their shapes in memory.
    pub fn parameters(&self) -> Vec<(AdapterTensor, Vec<usize>)> {
        match self {
            Self::Lora(lora) => lora.parameters(),
            Self::Dora(dora) => dora.parameters(),
            Self::Ia3(ia3) => ia3.parameters(),
        }
    }
}

impl AdapterConfig {
    /// The name of the method in recipes.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lora(_) => "lora",
            Self::Dora(_) => "dora",
            Self::Ia3(_) => "ia3",
        }
    }

    /// The modules to adapt.
    pub fn targets(&self) -> &Targets {
        match self {
            Self::Lora(lora) | Self::Dora(lora) => &lora.targets,
            Self::Ia3(ia3) => &ia3.targets,
        }
    }

    /// The modules to leave out.
    pub fn exclude(&self) -> Option<&ModulePattern> {
        match self {
            Self::Lora(lora) | Self::Dora(lora) => lora.exclude.as_ref(),
            Self::Ia3(ia3) => ia3.exclude.as_ref(),
        }
    }

    /// The layers to adapt, if not all.
    pub fn layers(&self) -> Option<&Layers> {
        match self {
            Self::Lora(lora) | Self::Dora(lora) => lora.layers.as_ref(),
            Self::Ia3(_) => None,
        }
    }

    /// The parameters of the base that are trained beside the adapters.
    pub fn trained_base(&self) -> &TrainedBase {
        match self {
            Self::Lora(lora) | Self::Dora(lora) => &lora.base,
            Self::Ia3(ia3) => &ia3.base,
        }
    }

    pub(crate) fn trained_base_mut(&mut self) -> &mut TrainedBase {
        match self {
            Self::Lora(lora) | Self::Dora(lora) => &mut lora.base,
            Self::Ia3(ia3) => &mut ia3.base,
        }
    }

    /// The paths to adapt among `modules`, which are all linear maps that can be adapted.
    ///
    /// # Errors
    /// A pattern that does not compile or selects nothing.
    pub fn select(&self, modules: &[String]) -> Result<Vec<String>, AdapterError> {
        let selected = self.targets().select(modules, self.exclude())?;
        let selected = self.trained_base().leaves(selected)?;
        match (self, self.layers()) {
            (_, Some(layers)) => layers.select(selected),
            (Self::Ia3(ia3), None) => ia3.check(&selected).map(|()| selected),
            (Self::Lora(_) | Self::Dora(_), None) => Ok(selected),
        }
    }

    /// Tensors of the adapter on the module at `path` with weight `[out, in]`, with their shapes in files.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn shapes(&self, path: &str, shape: [usize; 2]) -> Result<Vec<(AdapterTensor, Vec<usize>)>, AdapterError> {
        match self {
            Self::Lora(lora) => lora.shapes(path, shape),
            Self::Dora(lora) => {
                Ok(lora.shapes(path, shape)?.into_iter().chain([LoraConfig::magnitude_shape(shape)]).collect())
            }
            Self::Ia3(ia3) => ia3.shapes(path, shape),
        }
    }

    /// Whether [`Self::initial`] needs the weight as it was before quantization.
    pub fn starts_at_what_quantization_lost(&self) -> bool {
        matches!(self, Self::Lora(lora) if lora.init == LoraInit::Loftq)
    }

    /// The initial values of the adapter on `base`, the module at `path`. `original` is the weight of `base` before
    /// quantization, needed where [`Self::starts_at_what_quantization_lost`].
    ///
    /// # Errors
    /// A pattern that does not compile, or an initialisation that the module does not allow.
    pub fn initial(
        &self,
        seed: u64,
        path: &str,
        base: &Linear,
        original: Option<Vec<f32>>,
    ) -> Result<AdapterValues, AdapterError> {
        match self {
            Self::Lora(lora) => Ok(match original {
                Some(original) => lora.initial_loftq(seed, path, base, original)?,
                None => lora.initial(seed, path, base)?,
            }
            .into()),
            Self::Dora(lora) if lora.init.is_written_as_difference() => Err(AdapterError::Initial {
                path: path.into(),
                problem: "DoRA does not start at a part of the weight; choose another init".into(),
            }),
            Self::Dora(lora) => Ok(dora::initial(lora.initial(seed, path, base)?.into(), base)),
            Self::Ia3(ia3) => {
                let shapes = ia3.shapes(path, base.shape())?.into_iter();
                Ok(shapes.map(|(tensor, shape)| (tensor, vec![1.0; shape.iter().product()])).collect())
            }
        }
    }

    /// The trainable adapter on `base`, the module at `path`, with values for the tensors of [`Self::shapes`].
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
        let mut take = |tensor| values.remove(&tensor).unwrap_or_default();
        let (magnitude, scale) = (take(AdapterTensor::Magnitude), take(AdapterTensor::Scale));
        let factors = LoraFactors::from(&mut values);
        match self {
            Self::Ia3(ia3) => Ok(Adapter::Ia3(ia3.build(path, scale, device)?)),
            Self::Lora(lora) => Ok(Adapter::Lora(lora.build(path, base.shape(), factors, device)?)),
            Self::Dora(lora) => {
                Ok(Adapter::Dora(Dora::new(lora.build(path, base.shape(), factors, device)?, magnitude, base)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
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
        let lora = LoraConfig { dropout: 0.5, ..LoraConfig::new(2, 3.0, Targets::AllLinear) };
        let starting = |init| AdapterConfig::Lora(LoraConfig { init, ..lora.clone() });
        let ia3 = |feedforward: &str| {
            AdapterConfig::Ia3(Ia3Config {
                targets: Targets::AllLinear,
                exclude: None,
                feedforward: ModulePattern::Suffixes(vec![feedforward.into()]),
                base: TrainedBase::default(),
            })
        };
        let mut methods: Vec<AdapterConfig> =
            [LoraInit::Kaiming, LoraInit::Gaussian, LoraInit::Orthogonal, LoraInit::Pissa, LoraInit::Olora]
                .map(starting)
                .into();
        methods.extend([AdapterConfig::Dora(lora.clone()), ia3("q"), ia3("down")]);
        methods
    }

    fn built(method: &AdapterConfig, values: Option<AdapterValues>, device: &Device) -> Linear {
        let mut linear = base(device);
        let values = values.unwrap_or_else(|| method.initial(1, "q", &linear, None).unwrap());
        linear.attach(method.build("q", &linear, values, device).unwrap());
        linear
    }

    /// Values as after some training.
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
            if matches!(method, AdapterConfig::Ia3(_)) {
                continue; // PEFT's has none.
            }
            let moved = built(&method, Some(moved(&method)), &device);
            assert_ne!(outputs(&moved, training), outputs(&moved, Mode::Inference), "{}", method.kind());
            let fresh = built(&method, None, &device);
            assert_near(&method, &outputs(&fresh, training), &outputs(&base(&device), Mode::Inference));
        }
    }

    #[test]
    fn two_low_rank_adapters_together_are_the_sum_of_both() {
        let device = Device::flex();
        let low_rank: Vec<_> =
            methods().into_iter().filter(|method| matches!(method, AdapterConfig::Lora(_))).collect();
        for (left, right) in [(&low_rank[0], &low_rank[1]), (&low_rank[3], &low_rank[0])] {
            let [one, other] = [left, right].map(|method| built(method, Some(moved(method)), &device));
            let mut both = base(&device);
            both.attach(one.adapter().unwrap().beside(other.adapter().unwrap()).unwrap());
            let none = outputs(&base(&device), Mode::Inference);
            let parts = outputs(&one, Mode::Inference).into_iter().zip(outputs(&other, Mode::Inference)).zip(&none);
            let sum: Vec<f32> = parts.map(|((one, other), base)| one + other - base).collect();
            assert_near(left, &outputs(&both, Mode::Inference), &sum);
        }
        let (lora, dora) = (built(&low_rank[0], None, &device), built(&methods()[5], None, &device));
        assert!(lora.adapter().unwrap().beside(dora.adapter().unwrap()).is_err());
    }
}
