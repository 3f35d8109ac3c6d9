//! LoRA: `y = W x + s B A dropout(x)`, with `A [rank, in]`, `B [out, rank]` (Hu et al. 2021, arXiv:2106.09685).
//!
//! The product stays factored in training, so no `[out, in]` matrix beyond the frozen weight exists, forward or
//! backward. The scale is `alpha / rank`, or `alpha / sqrt(rank)` with rank stabilisation (arXiv:2312.03732). `A` starts
//! kaiming-uniform with `a = sqrt(5)`, which is uniform in `+-1/sqrt(in)`; `B` starts at zero, so the first forward
//! pass is the base model's. Names, layouts and initial values are PEFT's (`tuners/lora/layer.py`).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use firebrand_kernels::linear;
use rand::Rng;

use crate::adapter::Shapes;
use crate::targets::pattern_value;
use crate::{
    AdapterError, AdapterTensor, AdapterValues, Mode, ModulePattern, Targets, low_rank_delta, stream, uniform,
};

/// The factors of one adapted linear map.
#[derive(Module, Debug)]
pub struct Lora {
    /// `[rank, in]`.
    pub a: Param<Tensor<2>>,
    /// `[out, rank]`.
    pub b: Param<Tensor<2>>,
    #[module(skip)]
    pub(crate) settings: Settings,
}

/// What is not trained.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    scale: f64,
    dropout: f64,
    path: String,
}

/// How LoRA adapters are made; the recipe's `[adapter]` and PEFT's `adapter_config.json` both become this.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank where `rank_pattern` has nothing to say.
    pub rank: usize,
    /// Scale numerator where `alpha_pattern` has nothing to say.
    pub alpha: f64,
    /// Probability of zeroing an input of `A` in training.
    pub dropout: f64,
    /// Scale by `alpha / sqrt(rank)`.
    pub rslora: bool,
    /// Modules to adapt.
    pub targets: Targets,
    /// Modules to leave out.
    pub exclude: Option<ModulePattern>,
    /// Path-end patterns with their own rank.
    pub rank_pattern: Vec<(String, usize)>,
    /// Path-end patterns with their own alpha.
    pub alpha_pattern: Vec<(String, f64)>,
}

/// Values of `A` and `B`, row-major; a map of [`AdapterValues`] by name.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraFactors {
    /// `[rank, in]`.
    pub a: Vec<f32>,
    /// `[out, rank]`.
    pub b: Vec<f32>,
}

impl From<LoraFactors> for AdapterValues {
    fn from(factors: LoraFactors) -> Self {
        [(AdapterTensor::A, factors.a), (AdapterTensor::B, factors.b)].into()
    }
}

impl From<&mut AdapterValues> for LoraFactors {
    fn from(values: &mut AdapterValues) -> Self {
        let mut take = |tensor| values.remove(&tensor).unwrap_or_default();
        Self { a: take(AdapterTensor::A), b: take(AdapterTensor::B) }
    }
}

impl LoraConfig {
    /// Rank of the module at `path`.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn rank_at(&self, path: &str) -> Result<usize, AdapterError> {
        Ok(pattern_value("adapter.rank_pattern", &self.rank_pattern, path)?.unwrap_or(self.rank))
    }

    /// Scale of the module at `path`.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn scale_at(&self, path: &str) -> Result<f64, AdapterError> {
        let alpha = pattern_value("adapter.alpha_pattern", &self.alpha_pattern, path)?.unwrap_or(self.alpha);
        let rank = self.rank_at(path)? as f64;
        Ok(if self.rslora { alpha / rank.sqrt() } else { alpha / rank })
    }

    /// The starting values for the module at `path` with weight `[out, in]`.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn initial(&self, seed: u64, path: &str, [out, input]: [usize; 2]) -> Result<LoraFactors, AdapterError> {
        let rank = self.rank_at(path)?;
        let bound = 1.0 / (input as f32).sqrt();
        let a = uniform(&mut stream(seed, &format!("{path}.lora_A.weight")), rank * input, bound);
        Ok(LoraFactors { a, b: vec![0.0; out * rank] })
    }

    /// Shapes of the factors of the module at `path` with weight `[out, in]`.
    pub(crate) fn shapes(&self, path: &str, [out, input]: [usize; 2]) -> Result<Shapes, AdapterError> {
        let rank = self.rank_at(path)?;
        Ok(vec![(AdapterTensor::A, vec![rank, input]), (AdapterTensor::B, vec![out, rank])])
    }

    /// The trainable module at `path` with the given values for a weight `[out, in]`.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn build(
        &self,
        path: &str,
        [out, input]: [usize; 2],
        factors: LoraFactors,
        device: &Device,
    ) -> Result<Lora, AdapterError> {
        let rank = self.rank_at(path)?;
        let matrix = |values, shape| Param::from_data(TensorData::new(values, shape), device);
        Ok(Lora {
            a: matrix(factors.a, [rank, input]),
            b: matrix(factors.b, [out, rank]),
            settings: Settings { scale: self.scale_at(path)?, dropout: self.dropout, path: path.into() },
        })
    }
}

impl Lora {
    /// `s B A dropout(x)`; `x` is `[batch, time, in]`.
    pub fn forward(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        self.product(self.dropped(x, mode))
    }

    /// Whether training drops inputs.
    pub(crate) fn drops(&self) -> bool {
        self.settings.dropout > 0.0
    }

    /// The input of `A`.
    pub(crate) fn dropped(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        match mode {
            Mode::Training { key, first_row } if self.drops() => self.drop(x, key, first_row),
            Mode::Training { .. } | Mode::Inference => x,
        }
    }

    /// `s B A x`.
    pub(crate) fn product(&self, x: Tensor<3>) -> Tensor<3> {
        // Scaling the narrow side costs `rank` values a token instead of `out`.
        let narrow = linear(x, self.a.val()) * self.settings.scale;
        linear(narrow, self.b.val())
    }

    /// `s B A`, `[out, in]`.
    pub fn delta(&self) -> Tensor<2> {
        low_rank_delta(self.a.val(), self.b.val(), self.settings.scale)
    }

    /// The factor in front of `B A`.
    pub fn scale(&self) -> f64 {
        self.settings.scale
    }

    fn drop(&self, x: Tensor<3>, key: u64, first_row: usize) -> Tensor<3> {
        let keep = 1.0 - self.settings.dropout;
        let kept = (1.0 / keep) as f32;
        let [batch, time, width] = x.dims();
        let mut mask = Vec::with_capacity(batch * time * width);
        for row in first_row..first_row + batch {
            let mut rng = stream(key, &format!("{}#{row}", self.settings.path));
            mask.extend((0..time * width).map(|_| if f64::from(rng.random::<f32>()) < keep { kept } else { 0.0 }));
        }
        let mask = Tensor::from_data(TensorData::new(mask, [batch, time, width]), &x.device());
        x * mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LoraConfig {
        LoraConfig {
            rank: 4,
            alpha: 8.0,
            dropout: 0.0,
            rslora: false,
            targets: Targets::AllLinear,
            exclude: None,
            rank_pattern: vec![("up_proj".into(), 2)],
            alpha_pattern: vec![],
        }
    }

    fn input(device: &Device) -> Tensor<3> {
        let values: Vec<f32> = (0..2 * 3 * 6).map(|i| (i as f32 * 0.7).sin()).collect();
        Tensor::from_data(TensorData::new(values, [2, 3, 6]), device)
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn initial_delta_is_zero() {
        let device = Device::flex();
        let factors = config().initial(1, "layers.0.q_proj", [5, 6]).unwrap();
        assert!(factors.a.iter().any(|value| *value != 0.0));
        let lora = config().build("layers.0.q_proj", [5, 6], factors, &device).unwrap();
        assert!(values(lora.delta()).iter().all(|value| *value == 0.0));
        assert!(values(lora.forward(input(&device), Mode::Inference)).iter().all(|value| *value == 0.0));
    }

    #[test]
    fn scale_follows_patterns_and_rank_stabilisation() {
        let mut config = config();
        assert_eq!(config.scale_at("layers.0.q_proj").unwrap(), 2.0);
        assert_eq!(config.scale_at("layers.0.up_proj").unwrap(), 4.0);
        config.rslora = true;
        assert_eq!(config.scale_at("layers.0.q_proj").unwrap(), 4.0);
    }

    #[test]
    fn forward_is_the_product_with_the_delta() {
        let device = Device::flex();
        let mut factors = config().initial(3, "q", [5, 6]).unwrap();
        factors.b = (0..20).map(|i| (i as f32).cos()).collect();
        let lora = config().build("q", [5, 6], factors, &device).unwrap();
        let direct = values(lora.forward(input(&device), Mode::Inference));
        let dense = values(input(&device).matmul(lora.delta().transpose().unsqueeze()));
        for (left, right) in direct.iter().zip(&dense) {
            assert!((left - right).abs() < 1e-5, "{left} {right}");
        }
    }

    #[test]
    fn dropout_acts_in_training_only_and_is_a_function_of_its_key() {
        let device = Device::flex();
        let mut config = config();
        config.dropout = 0.5;
        let mut factors = config.initial(3, "q", [5, 6]).unwrap();
        factors.b = vec![1.0; 20];
        let lora = config.build("q", [5, 6], factors, &device).unwrap();
        let run = |mode| values(lora.forward(input(&device), mode));
        let training = |key| Mode::Training { key, first_row: 0 };
        assert_eq!(run(training(1)), run(training(1)));
        assert_ne!(run(training(1)), run(training(2)));
        assert_ne!(run(training(1)), run(Mode::Inference));
    }

    #[test]
    fn a_row_keeps_its_mask_in_any_micro_batch() {
        let device = Device::flex();
        let mut config = config();
        config.dropout = 0.5;
        let factors = config.initial(3, "q", [5, 6]).unwrap();
        let lora = config.build("q", [5, 6], factors, &device).unwrap();
        let whole = values(lora.drop(Tensor::ones([2, 3, 6], &device), 5, 0));
        let second = values(lora.drop(Tensor::ones([1, 3, 6], &device), 5, 1));
        assert_eq!(whole[18..], second);
    }

    #[test]
    fn dropout_keeps_the_mean() {
        let device = Device::flex();
        let mut config = config();
        config.dropout = 0.3;
        let factors = config.initial(3, "q", [5, 100]).unwrap();
        let lora = config.build("q", [5, 100], factors, &device).unwrap();
        let dropped = values(lora.drop(Tensor::ones([1, 1000, 100], &device), 9, 0));
        let mean = dropped.iter().sum::<f32>() / dropped.len() as f32;
        let zeros = dropped.iter().filter(|value| **value == 0.0).count() as f32 / dropped.len() as f32;
        assert!((mean - 1.0).abs() < 0.01, "mean {mean}");
        assert!((zeros - 0.3).abs() < 0.01, "zeros {zeros}");
    }
}
