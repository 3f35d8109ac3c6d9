//! LoRA: `y = W x + s B A dropout(x)`, with `A [rank, in]`, `B [out, rank]` (Hu et al. 2021, arXiv:2106.09685). The
//! adapter is [`Lora`].
//!
//! The product stays factored in training, so no `[out, in]` matrix beside the frozen weight exists, forward or
//! backward. The scale is `alpha / rank`, or `alpha / sqrt(rank)` with rank stabilisation (arXiv:2312.03732). With
//! every initialisation (`initial.rs`) the first forward pass is that of the base model. Names and layouts are PEFT's
//! (`tuners/lora/layer.py`).

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Shape, Tensor, TensorData};
use firebrand_kernels::{Precision, linear};

use crate::adapter::Shapes;
use crate::dropout::Dropout;
use crate::initial::{Origin, Start};
use crate::targets::pattern_value;
use crate::{
    AdapterError, AdapterTensor, AdapterValues, Layers, Linear, LoraInit, Mode, ModulePattern, Place, Targets,
    TrainedBase, low_rank_delta,
};

/// The LoRA adapter of one linear map.
#[derive(Module, Debug)]
pub struct Lora {
    /// `[rank, in]`.
    pub a: Param<Tensor<2>>,
    /// `[out, rank]`.
    pub b: Param<Tensor<2>>,
    #[module(skip)]
    pub(crate) settings: Settings,
}

/// The settings of an adapter, which are not trained.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    scale: f64,
    dropout: Dropout,
    start: Origin,
}

/// How LoRA adapters are made; the recipe's `[adapter]` and PEFT's `adapter_config.json` both become this.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of modules that no `rank_pattern` matches.
    pub rank: usize,
    /// Alpha, the numerator of the scale, of modules that no `alpha_pattern` matches.
    pub alpha: f64,
    /// Probability of zeroing an input of `A` in training.
    pub dropout: f64,
    /// Whether the scale is `alpha / sqrt(rank)` instead of `alpha / rank`.
    pub rslora: bool,
    /// Modules to adapt.
    pub targets: Targets,
    /// Modules to leave out.
    pub exclude: Option<ModulePattern>,
    /// Path-end patterns with their own rank.
    pub rank_pattern: Vec<(String, usize)>,
    /// Path-end patterns with their own alpha.
    pub alpha_pattern: Vec<(String, f64)>,
    /// The layers to adapt, if not all.
    pub layers: Option<Layers>,
    /// Initialisation of the factors.
    pub init: LoraInit,
    /// The parameters of the base that are trained beside the adapters.
    pub base: TrainedBase,
}

/// Values of `A` and `B`, row-major: [`AdapterValues`] with named fields.
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

impl LoraFactors {
    /// The factors of the sum of both products.
    pub(crate) fn concatenated(&self, other: &Self, rank: usize, other_rank: usize) -> Self {
        let rows = self.b.chunks(rank).zip(other.b.chunks(other_rank));
        let b = rows.flat_map(|(left, right)| left.iter().chain(right).copied()).collect();
        Self { a: [self.a.as_slice(), &other.a].concat(), b }
    }

    /// The factors of the difference to `start`, which has the same rank; their rank is twice that.
    pub(crate) fn without(&self, start: &Self, rank: usize) -> Self {
        let negative = Self { a: start.a.clone(), b: start.b.iter().map(|value| -value).collect() };
        self.concatenated(&negative, rank, rank)
    }

    /// The inverse of [`Self::without`].
    fn split(&self, rank: usize) -> (Self, Arc<Self>) {
        let (a, start_a) = self.a.split_at(self.a.len() / 2);
        let halves = self.b.chunks(2 * rank).map(|row| row.split_at(rank));
        let (b, start_b): (Vec<&[f32]>, Vec<&[f32]>) = halves.unzip();
        let start = Self { a: start_a.to_vec(), b: start_b.concat().iter().map(|value| -value).collect() };
        (Self { a: a.to_vec(), b: b.concat() }, Arc::new(start))
    }
}

impl LoraConfig {
    /// Adapters of one rank on all `targets`, with default values for everything else.
    pub fn new(rank: usize, alpha: f64, targets: Targets) -> Self {
        Self {
            rank,
            alpha,
            targets,
            dropout: 0.0,
            rslora: false,
            exclude: None,
            rank_pattern: vec![],
            alpha_pattern: vec![],
            layers: None,
            init: LoraInit::default(),
            base: TrainedBase::default(),
        }
    }

    /// Rank of the module at `path`.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn rank_at(&self, path: &str) -> Result<usize, AdapterError> {
        Ok(pattern_value("adapter.rank_pattern", &self.rank_pattern, path)?.unwrap_or(self.rank))
    }

    /// Alpha of the module at `path`.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn alpha_at(&self, path: &str) -> Result<f64, AdapterError> {
        Ok(pattern_value("adapter.alpha_pattern", &self.alpha_pattern, path)?.unwrap_or(self.alpha))
    }

    /// Scale of the module at `path`.
    ///
    /// # Errors
    /// A pattern that does not compile.
    pub fn scale_at(&self, path: &str) -> Result<f64, AdapterError> {
        let alpha = self.alpha_at(path)?;
        let rank = self.rank_at(path)? as f64;
        Ok(if self.rslora { alpha / rank.sqrt() } else { alpha / rank })
    }

    /// The initial values on `base`, the module at `path`, laid out as in files.
    ///
    /// # Errors
    /// A pattern that does not compile, or a rank that the initialisation does not allow.
    pub fn initial(&self, seed: u64, path: &str, base: &Linear) -> Result<LoraFactors, AdapterError> {
        let rank = self.rank_at(path)?;
        let factors = self.init.factors(&Start { seed, path, rank, scale: self.scale_at(path)? }, base)?;
        Ok(if self.init.is_written_as_difference() { factors.without(&factors, rank) } else { factors })
    }

    /// Trained factors as files hold them for the unchanged base: without the start, which is made again from `base`, the
    /// module at `path`.
    ///
    /// # Errors
    /// A pattern that does not compile, or a rank that the initialisation does not allow.
    pub fn relative_to_start(
        &self,
        path: &str,
        base: &Linear,
        trained: LoraFactors,
    ) -> Result<LoraFactors, AdapterError> {
        let rank = self.rank_at(path)?;
        // The starts whose product is not zero draw no numbers.
        let start = self.init.factors(&Start { seed: 0, path, rank, scale: self.scale_at(path)? }, base)?;
        Ok(trained.without(&start, rank))
    }

    /// The settings of the adapter in files: with twice the rank where files hold the difference to the start.
    pub fn in_files(&self) -> Self {
        if !self.init.is_written_as_difference() {
            return self.clone();
        }
        let more = if self.rslora { std::f64::consts::SQRT_2 } else { 2.0 };
        Self {
            rank: self.rank * 2,
            alpha: self.alpha * more,
            rank_pattern: self.rank_pattern.iter().map(|(key, rank)| (key.clone(), rank * 2)).collect(),
            alpha_pattern: self.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), alpha * more)).collect(),
            init: LoraInit::Kaiming,
            ..self.clone()
        }
    }

    /// Shapes in files of the factors of the module at `path` with weight `[out, in]`.
    pub(crate) fn shapes(&self, path: &str, [out, input]: [usize; 2]) -> Result<Shapes, AdapterError> {
        let rank = self.in_files().rank_at(path)?;
        Ok(vec![(AdapterTensor::A, vec![rank, input]), (AdapterTensor::B, vec![out, rank])])
    }

    /// The trainable adapter at `path` for a weight `[out, in]`, with values laid out as in files.
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
        let (factors, start) = match self.init {
            LoraInit::Kaiming | LoraInit::Gaussian | LoraInit::Orthogonal => (factors, Origin::Zero),
            LoraInit::Pissa | LoraInit::Olora => {
                let (factors, start) = factors.split(rank);
                (factors, Origin::Subtracted(start))
            }
            LoraInit::Loftq => {
                let (factors, start) = factors.split(rank);
                (factors, Origin::Kept(start))
            }
        };
        Ok(Lora {
            a: matrix(factors.a, [rank, input]),
            b: matrix(factors.b, [out, rank]),
            settings: Settings { scale: self.scale_at(path)?, dropout: Dropout::new(self.dropout, path), start },
        })
    }
}

impl Lora {
    /// The adapted map of `x`, with the bias: `x` is `[batch, time, in]`. For `places` see [`Linear::forward_at`].
    pub(crate) fn project(&self, x: Tensor<3>, mode: Mode, places: Option<&[Place]>, base: &Linear) -> Tensor<3> {
        match mode {
            Mode::Training { .. } if self.drops() => {
                let plain = base.biased_product(x.clone());
                plain + self.product(self.dropped(x, mode, places))
            }
            Mode::Training { .. } | Mode::Inference => {
                let factors = self.factors(&x.device());
                base.biased_product_beside(x, factors, self.settings.scale)
            }
        }
    }

    /// Whether it has dropout in training.
    pub(crate) fn drops(&self) -> bool {
        self.settings.dropout.drops()
    }

    /// The input of `A`: `x`, with dropout in training. `places` gives the positions of the tokens of `x` `[1, tokens, in]`, where `x` is
    /// not the whole micro-batch in order.
    pub(crate) fn dropped(&self, x: Tensor<3>, mode: Mode, places: Option<&[Place]>) -> Tensor<3> {
        match mode {
            Mode::Training { key, first_row } if self.drops() => self.settings.dropout.apply(x, key, first_row, places),
            Mode::Training { .. } | Mode::Inference => x,
        }
    }

    /// `s B A x`, in f32.
    pub(crate) fn product(&self, x: Tensor<3>) -> Tensor<3> {
        let [a, b] = self.factors(&x.device());
        // Scaling the narrow side takes `rank` products per token instead of `out`.
        linear(linear(x, a, Precision::F32) * self.settings.scale, b, Precision::F32)
    }

    /// `A` and `B`; where the start is subtracted, with its factors behind them, those of `B` negative.
    fn factors(&self, device: &Device) -> [Tensor<2>; 2] {
        match self.start(device) {
            None => [self.a.val(), self.b.val()],
            Some((a, b)) => [Tensor::cat(vec![self.a.val(), a], 0), Tensor::cat(vec![self.b.val(), -b], 1)],
        }
    }

    /// `s B A`, `[out, in]`, minus the start where that is subtracted.
    pub fn delta(&self) -> Tensor<2> {
        let delta = low_rank_delta(self.a.val(), self.b.val(), self.settings.scale);
        match self.start(&delta.device()) {
            None => delta,
            Some((a, b)) => delta - low_rank_delta(a, b, self.settings.scale),
        }
    }

    /// Both adapters as one, for inference: the sum of their products.
    pub(crate) fn beside(&self, other: &Self) -> Self {
        let device = self.a.val().device();
        let [(left, left_rank), (right, right_rank)] = [self, other].map(Self::unscaled);
        let (input, rank) = (left.a.len() / left_rank, left_rank + right_rank);
        let out = left.b.len() / left_rank;
        let factors = left.concatenated(&right, left_rank, right_rank);
        let matrix = |values, shape| Param::from_data(TensorData::new(values, shape), &device);
        let settings = Settings { scale: 1.0, dropout: self.settings.dropout.without(), start: Origin::Zero };
        Self { a: matrix(factors.a, [rank, input]), b: matrix(factors.b, [out, rank]), settings }
    }

    /// Its factors laid out as in files, with the scale in `B`; and their rank.
    fn unscaled(&self) -> (LoraFactors, usize) {
        let mut factors = self.values();
        factors.b.iter_mut().for_each(|value| *value *= self.settings.scale as f32);
        (factors, self.rank_in_files())
    }

    /// Its factors, laid out as in files.
    fn values(&self) -> LoraFactors {
        let host = |matrix: &Param<Tensor<2>>| matrix.val().into_data().iter::<f32>().collect();
        let factors = LoraFactors { a: host(&self.a), b: host(&self.b) };
        match self.settings.start.factors() {
            None => factors,
            Some(start) => factors.without(start, self.a.lazy_shape()[0]),
        }
    }

    fn rank_in_files(&self) -> usize {
        let [rank, _] = self.a.lazy_shape().dims::<2>();
        if self.settings.start.factors().is_some() { 2 * rank } else { rank }
    }

    /// Whether the adapter makes up for the base's quantization error, so that the base needs it.
    pub(crate) fn makes_up_for_base(&self) -> bool {
        matches!(self.settings.start, Origin::Kept(_))
    }

    /// Its tensors, laid out as in files.
    pub(crate) fn tensors(&self) -> Vec<(AdapterTensor, Vec<usize>, Vec<f32>)> {
        let ([_, input], [out, _]) = (self.a.lazy_shape().dims::<2>(), self.b.lazy_shape().dims::<2>());
        let rank = self.rank_in_files();
        let LoraFactors { a, b } = self.values();
        vec![(AdapterTensor::A, vec![rank, input], a), (AdapterTensor::B, vec![out, rank], b)]
    }

    /// The parameters, with their shapes in memory.
    pub(crate) fn parameters(&self) -> Vec<(AdapterTensor, Vec<usize>)> {
        vec![(AdapterTensor::A, self.a.lazy_shape().to_vec()), (AdapterTensor::B, self.b.lazy_shape().to_vec())]
    }

    /// The start that is subtracted, if there is one.
    fn start(&self, device: &Device) -> Option<(Tensor<2>, Tensor<2>)> {
        let Origin::Subtracted(start) = &self.settings.start else { return None };
        let matrix =
            |values: &Vec<f32>, shape: Shape| Tensor::from_data(TensorData::new(values.clone(), shape), device);
        Some((matrix(&start.a, self.a.lazy_shape()), matrix(&start.b, self.b.lazy_shape())))
    }

    /// The factor on `B A`.
    pub fn scale(&self) -> f64 {
        self.settings.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LoraConfig {
        LoraConfig { rank_pattern: vec![("up_proj".into(), 2)], ..LoraConfig::new(4, 8.0, Targets::AllLinear) }
    }

    fn base(out: usize, input: usize) -> Linear {
        Linear::new(Param::from_tensor(Tensor::ones([out, input], &Device::flex())), None)
    }

    fn input(device: &Device) -> Tensor<3> {
        let values: Vec<f32> = (0..2 * 3 * 6).map(|i| (i as f32 * 0.7).sin()).collect();
        Tensor::from_data(TensorData::new(values, [2, 3, 6]), device)
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// What the adapter adds.
    fn update(lora: &Lora, mode: Mode) -> Tensor<3> {
        lora.product(lora.dropped(input(&Device::flex()), mode, None))
    }

    #[test]
    fn initial_delta_is_zero() {
        let device = Device::flex();
        let factors = config().initial(1, "layers.0.q_proj", &base(5, 6)).unwrap();
        assert!(factors.a.iter().any(|value| *value != 0.0));
        let lora = config().build("layers.0.q_proj", [5, 6], factors, &device).unwrap();
        assert!(values(lora.delta()).iter().all(|value| *value == 0.0));
        assert!(values(update(&lora, Mode::Inference)).iter().all(|value| *value == 0.0));
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
        let mut factors = config().initial(3, "q", &base(5, 6)).unwrap();
        factors.b = (0..20).map(|i| (i as f32).cos()).collect();
        let lora = config().build("q", [5, 6], factors, &device).unwrap();
        let direct = values(update(&lora, Mode::Inference));
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
        let mut factors = config.initial(3, "q", &base(5, 6)).unwrap();
        factors.b = vec![1.0; 20];
        let lora = config.build("q", [5, 6], factors, &device).unwrap();
        let run = |mode| values(update(&lora, mode));
        let training = |key| Mode::Training { key, first_row: 0 };
        assert_eq!(run(training(1)), run(training(1)));
        assert_ne!(run(training(1)), run(training(2)));
        assert_ne!(run(training(1)), run(Mode::Inference));
    }
}
