//! [`Norm`]: normalisation layers.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use firebrand_kernels::{layer_norm, rms_norm};

use super::{Affine, NormConfig};
use crate::parameters::{ParameterSource, Role, vector};

/// A normalisation over the last dimension.
#[derive(Module, Debug)]
pub enum Norm {
    /// By the root mean square, computed in f32 as in Hugging Face's code.
    Rms(RmsNorm),
    /// By mean and variance.
    Layer(LayerNorm),
}

/// `(w + offset) * x / sqrt(mean(x^2) + eps)` (Zhang & Sennrich 2019, arXiv:1910.07467).
#[derive(Module, Debug)]
pub struct RmsNorm {
    weight: Param<Tensor<1>>,
    #[module(skip)]
    offset: f64,
    #[module(skip)]
    eps: f64,
}

/// `w * (x - mean(x)) / sqrt(variance(x) + eps) + b` (Ba et al. 2016, arXiv:1607.06450); an absent `w` is one.
#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Option<Param<Tensor<1>>>,
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    eps: f64,
}

impl Norm {
    /// Reads `weight`, and `bias` where there is one, of `width` values.
    pub fn new(config: NormConfig, width: usize, source: &mut dyn ParameterSource) -> Self {
        let mut vector = |name: &str, initial| vector(source, name, width, Role::Norm, initial);
        match config {
            NormConfig::Rms { eps } => Self::Rms(RmsNorm { weight: vector("weight", 1.0), offset: 0.0, eps }),
            NormConfig::RmsPlusOne { eps } => Self::Rms(RmsNorm { weight: vector("weight", 0.0), offset: 1.0, eps }),
            NormConfig::Layer { eps, affine } => Self::Layer(LayerNorm {
                weight: (affine != Affine::Fixed).then(|| vector("weight", 1.0)),
                bias: (affine == Affine::WeightAndBias).then(|| vector("bias", 0.0)),
                eps,
            }),
        }
    }

    /// `[batch, time, width]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Rms(norm) => rms_norm(x, norm.weight.val(), norm.eps, norm.offset),
            Self::Layer(norm) => {
                let weight = match &norm.weight {
                    Some(weight) => weight.val(),
                    None => Tensor::ones([x.dims()[2]], &x.device()),
                };
                layer_norm(x, weight, norm.bias.as_ref().map(|bias| bias.val()), norm.eps)
            }
        }
    }

    /// `[batch, time, heads, width]` to the same shape, each head separately.
    pub fn forward_heads(&self, x: Tensor<4>) -> Tensor<4> {
        let shape = x.dims();
        let [batch, time, heads, width] = shape;
        self.forward(x.reshape([batch, time * heads, width])).reshape(shape)
    }
}
