//! Normalisation layers.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use firebrand_kernels::rms_norm;

use super::NormConfig;
use crate::parameters::ParameterSource;

/// A normalisation of the last dimension.
#[derive(Module, Debug)]
pub enum Norm {
    /// Root mean square, in f32 as Hugging Face does it.
    Rms(RmsNorm),
}

/// `w * x / sqrt(mean(x^2) + eps)` (Zhang & Sennrich 2019, arXiv:1910.07467).
#[derive(Module, Debug)]
pub struct RmsNorm {
    weight: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl Norm {
    /// Reads `{path}.weight` of `width` values.
    pub fn new(config: NormConfig, width: usize, path: &str, source: &mut dyn ParameterSource) -> Self {
        match config {
            NormConfig::Rms { eps } => {
                Self::Rms(RmsNorm { weight: source.vector(&format!("{path}.weight"), width), eps })
            }
        }
    }

    /// `[batch, time, width]` to the same.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Rms(norm) => rms_norm(x, norm.weight.val(), norm.eps, 0.0),
        }
    }
}
