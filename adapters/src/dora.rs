//! DoRA: `y = m / |W + s B A| * (W + s B A) x`. LoRA changes the direction of each row of the weight, and a magnitude
//! for each output is learned separately (Liu et al. 2024, arXiv:2402.09353). The adapter is [`Dora`].
//!
//! `m`, the magnitude `[out]`, starts at the norms of the base's rows, so the first forward pass is that of the base
//! model. The norm in the denominator depends on `A` and `B` but has no gradient (section 4.3 of the paper). The bias
//! is not scaled. With dropout, `W x` is computed from the full input, and DoRA's change to it from the dropped input,
//! as in PEFT (`tuners/lora/dora.py`).
//!
//! The norms need no matrix of the weight's shape: the square of a row of `W + s B A` is
//! `|w|^2 + 2 s b.(A w) + s^2 b.(A A^T b)`, where `|w|^2` never changes and `A W^T` is a product with `rank` rows.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor, TensorData};
use firebrand_kernels::{Precision, multiply};

use crate::{AdapterTensor, AdapterValues, Linear, Lora, LoraConfig, Mode, Place};

/// The DoRA adapter of one linear map: factors and magnitude.
#[derive(Module, Debug)]
pub struct Dora {
    /// `[rank, in]`.
    pub a: Param<Tensor<2>>,
    /// `[out, rank]`.
    pub b: Param<Tensor<2>>,
    /// `[out]`.
    pub magnitude: Param<Tensor<1>>,
    #[module(skip)]
    fixed: Fixed,
}

#[derive(Debug, Clone)]
struct Fixed {
    lora: crate::lora::Settings,
    /// Sums of squares of the base weight's rows, `[out]`.
    squares: Arc<Vec<f32>>,
}

/// The initial values on `base`: those of LoRA, and the norms of the rows of `W + s B A`, where `B` is zero.
pub(crate) fn initial(lora: AdapterValues, base: &Linear) -> AdapterValues {
    let norms = base.row_squares().iter().map(|square| square.sqrt()).collect();
    lora.into_iter().chain([(AdapterTensor::Magnitude, norms)]).collect()
}

impl Dora {
    /// A DoRA adapter on `base` with the given factors and magnitude `[out]`.
    pub(crate) fn new(lora: Lora, magnitude: Vec<f32>, base: &Linear) -> Self {
        let [out, _] = base.shape();
        let device = lora.a.val().device();
        let Lora { a, b, settings } = lora;
        let magnitude = Param::from_data(TensorData::new(magnitude, [out]), &device);
        Self { a, b, magnitude, fixed: Fixed { lora: settings, squares: Arc::new(base.row_squares()) } }
    }

    /// The adapted map of `x`, `[batch, time, in]`, with the bias of `base`.
    pub(crate) fn project(&self, x: Tensor<3>, mode: Mode, places: Option<&[Place]>, base: &Linear) -> Tensor<3> {
        let lora = self.factors();
        let factor: Tensor<3> = (self.magnitude.val() / self.norms(base)).unsqueeze();
        let plain = base.product(x.clone());
        let y = match mode {
            Mode::Training { .. } if lora.drops() => {
                let dropped = lora.dropped(x, mode, places);
                let added = (factor.clone() - 1.0) * base.product(dropped.clone());
                plain + added + factor * lora.product(dropped)
            }
            Mode::Training { .. } | Mode::Inference => factor * (plain + lora.product(x)),
        };
        base.with_bias(y)
    }

    /// The dense matrix `[out, in]` with the same effect in inference, for the base's `weight` in f32.
    pub fn apply(&self, weight: Tensor<2>) -> Tensor<2> {
        let changed = weight + self.factors().delta();
        let norms = changed.clone().powi_scalar(2).sum_dim(1).sqrt();
        let magnitude: Tensor<2> = self.magnitude.val().unsqueeze_dim(1);
        changed * (magnitude / norms)
    }

    /// Its tensors, laid out as in files.
    pub(crate) fn tensors(&self) -> Vec<(AdapterTensor, Vec<usize>, Vec<f32>)> {
        let magnitude: Vec<f32> = self.magnitude.val().into_data().iter::<f32>().collect();
        let mut tensors = self.factors().tensors();
        tensors.push((AdapterTensor::Magnitude, vec![magnitude.len()], magnitude));
        tensors
    }

    /// The parameters, with their shapes in memory.
    pub(crate) fn parameters(&self) -> Vec<(AdapterTensor, Vec<usize>)> {
        let mut parameters = self.factors().parameters();
        parameters.push((AdapterTensor::Magnitude, self.magnitude.lazy_shape().to_vec()));
        parameters
    }

    /// `A` and `B` as a LoRA adapter.
    pub fn factors(&self) -> Lora {
        Lora { a: self.a.clone(), b: self.b.clone(), settings: self.fixed.lora.clone() }
    }

    /// The norms of the rows of `W + s B A`, without a gradient.
    fn norms(&self, base: &Linear) -> Tensor<1> {
        let (a, b) = (self.a.val().detach(), self.b.val().detach());
        let scale = self.factors().scale();
        let [out, _] = b.dims();
        // [out, rank]: W A^T.
        let across = base.product(a.clone().unsqueeze()).squeeze_dim::<2>(0).transpose();
        let gram = multiply(a.clone(), a.transpose(), Precision::F32);
        let terms = (across * 2.0 + multiply(b.clone(), gram, Precision::F32) * scale) * b * scale;
        let squares = Tensor::<1>::from_data(TensorData::new(self.fixed.squares.to_vec(), [out]), &terms.device());
        // Rounding may make the sum slightly negative for a row that the adapter takes to zero.
        (squares + terms.sum_dim(1).squeeze_dim::<1>(1)).cast(DType::F32).clamp_min(f32::MIN_POSITIVE).sqrt()
    }
}

impl LoraConfig {
    /// The tensor and shape of the magnitude.
    pub(crate) fn magnitude_shape([out, _]: [usize; 2]) -> (AdapterTensor, Vec<usize>) {
        (AdapterTensor::Magnitude, vec![out])
    }
}
