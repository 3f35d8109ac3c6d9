//! [`GroupNorm`]: normalisation over groups of channels (Wu & He 2018, arXiv:1803.08494).

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use firebrand_kernels::layer_norm;

use crate::parameters::{ParameterSource, Role, vector};

/// Sizes of a [`GroupNorm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNormConfig {
    /// Number of groups; it divides the number of channels.
    pub groups: usize,
    /// What is added to the variance.
    pub eps: f64,
}

/// `w * (x - mean(x)) / sqrt(variance(x) + eps) + b`, with mean and variance over the pixels of a group's channels, and a
/// weight and a bias for each channel.
#[derive(Module, Debug)]
pub struct GroupNorm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    config: GroupNormConfig,
}

impl GroupNorm {
    /// Reads `weight` and `bias` of `channels` values.
    pub fn new(config: GroupNormConfig, channels: usize, source: &mut dyn ParameterSource) -> Self {
        Self {
            weight: vector(source, "weight", channels, Role::Norm, 1.0),
            bias: vector(source, "bias", channels, Role::Norm, 0.0),
            config,
        }
    }

    /// `[batch, channels, height, width]` to the same shape.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shape = x.dims();
        let [batch, channels, height, width] = shape;
        let GroupNormConfig { groups, eps } = self.config;
        let size = channels / groups * height * width;
        let ones = Tensor::ones([size], &x.device());
        let normal = layer_norm(x.reshape([batch, groups, size]), ones, None, eps).reshape(shape);
        let each = |values: Tensor<1>| values.reshape([1, channels, 1, 1]);
        normal * each(self.weight.val()) + each(self.bias.val())
    }
}
