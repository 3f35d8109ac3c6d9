//! [`ResnetBlock`]: two convolutions beside a shortcut, told the time between them.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::{Linear, Mode};
use firebrand_kernels::{Activation, activate};

use super::convolution::{Convolution, ConvolutionConfig};
use super::deviation::deviation;
use super::group_norm::{GroupNorm, GroupNormConfig};
use crate::parameters::{Initial, ParameterSource, Role, linear_from, under};
use crate::parts::maps;

/// Sizes and variants of a [`ResnetBlock`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResnetConfig {
    /// Width of the embedded time; absent: the block is told no time.
    pub time: Option<usize>,
    /// The norms before both convolutions.
    pub norm: GroupNormConfig,
    /// The function between.
    pub activation: Activation,
}

/// `shortcut(x) + second(activation(norm(first(activation(norm(x))) + time)))`.
#[derive(Module, Debug)]
pub struct ResnetBlock {
    norm_first: GroupNorm,
    first: Convolution,
    time: Option<Linear>,
    norm_second: GroupNorm,
    second: Convolution,
    /// Where the number of channels changes.
    shortcut: Option<Convolution>,
    #[module(skip)]
    activation: Activation,
}

maps!(ResnetBlock { time });

impl ResnetBlock {
    /// Reads a block from `inputs` to `outputs` channels.
    pub fn new(config: ResnetConfig, inputs: usize, outputs: usize, source: &mut dyn ParameterSource) -> Self {
        let ResnetConfig { time, norm, activation } = config;
        Self {
            norm_first: GroupNorm::new(norm, inputs, &mut under(source, "norm_first")),
            first: Convolution::new(ConvolutionConfig::same(inputs, outputs, 3), &mut under(source, "first")),
            time: time.map(|width| {
                let initial = Initial::NormalWith(deviation(width));
                linear_from(source, "time", [outputs, width], true, Role::Map, initial)
            }),
            norm_second: GroupNorm::new(norm, outputs, &mut under(source, "norm_second")),
            second: Convolution::new(ConvolutionConfig::same(outputs, outputs, 3), &mut under(source, "second")),
            shortcut: (inputs != outputs)
                .then(|| Convolution::new(ConvolutionConfig::same(inputs, outputs, 1), &mut under(source, "shortcut"))),
            activation,
        }
    }

    /// `[batch, inputs, height, width]` to `[batch, outputs, height, width]`; `time` is the activated embedding of each
    /// row, `[batch, 1, width]`, where the block is told one.
    pub fn forward(&self, x: Tensor<4>, time: Option<&Tensor<3>>, mode: Mode) -> Tensor<4> {
        let hidden = self.first.forward(self.activated(self.norm_first.forward(x.clone())));
        let hidden = match (&self.time, time) {
            (Some(map), Some(time)) => {
                let [batch, channels, ..] = hidden.dims();
                hidden + map.forward(time.clone(), mode).reshape([batch, channels, 1, 1])
            }
            (None, _) | (Some(_), None) => hidden,
        };
        let hidden = self.second.forward(self.activated(self.norm_second.forward(hidden)));
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x) + hidden,
            None => x + hidden,
        }
    }

    fn activated(&self, x: Tensor<4>) -> Tensor<4> {
        activated(x, self.activation)
    }
}

/// The function of each value of `[batch, channels, height, width]`.
pub(super) fn activated(x: Tensor<4>, activation: Activation) -> Tensor<4> {
    let shape = x.dims();
    let [batch, channels, height, width] = shape;
    activate(x.reshape([batch, channels, height * width]), activation).reshape(shape)
}
