//! [`UNet`]: a network that tells the noise of a picture (Ronneberger et al. 2015, arXiv:1505.04597; Rombach et al. 2021,
//! arXiv:2112.10752).
//!
//! ```text
//! sample -> input -> down -> ... -> middle -> ... -> up -> norm -> output
//!                       \------- skips -------/
//! time -> waves -> embedding (+ embedding of pooled text and numbers) -> every resnet block
//! text -> every transformer
//! ```

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebrand_adapters::Mode;
use firebrand_kernels::{Activation, Precision, activate};

use super::config::UNetConfig;
use super::convolution::Convolution;
use super::group_norm::GroupNorm;
use super::resnet::activated;
use super::stage::{Condition, Stage, StageConfig};
use super::time::TimeEmbedding;
use crate::parameters::{ParameterSource, under, under_at};
use crate::parts::maps;

/// The network.
#[derive(Module, Debug)]
pub struct UNet {
    input: Convolution,
    time: TimeEmbedding,
    added: Option<TimeEmbedding>,
    down: Vec<Stage>,
    middle: Stage,
    up: Vec<Stage>,
    norm: GroupNorm,
    output: Convolution,
    #[module(skip)]
    config: UNetConfig,
}

maps!(UNet { time, added, down, middle, up });

/// Pictures of equal size, with texts of equal length.
#[derive(Debug, Clone)]
pub struct UNetInputs {
    /// Noisy pictures `[batch, channels, height, width]`.
    pub sample: Tensor<4>,
    /// The time of each.
    pub times: Vec<f32>,
    /// The states of the texts `[batch, tokens, width]`.
    pub text: Tensor<3>,
    /// What else the network is told, if it reads that.
    pub added: Option<AddedInputs>,
}

/// A text as one vector, and some numbers, for each picture.
#[derive(Debug, Clone)]
pub struct AddedInputs {
    /// `[batch, width]`.
    pub pooled: Tensor<2>,
    /// `[batch, numbers]`, row-major.
    pub numbers: Vec<f32>,
}

impl UNet {
    /// Reads every parameter from `source`.
    pub fn new(config: &UNetConfig, source: &mut dyn ParameterSource) -> Self {
        let UNetConfig { input, output, norm, time, added, down, middle, up, .. } = config;
        // Stages are numbered by their distance from the output.
        let before = down.len() + up.len() + 2;
        let stages = |name: &'static str, stages: &[StageConfig], last: usize, source: &mut dyn ParameterSource| {
            let stage = |(index, stage): (usize, &StageConfig)| {
                let source = &mut under_at(source, format!("{name}.{index}"), last - index);
                Stage::new(stage, stage.inputs.len(), source)
            };
            stages.iter().enumerate().map(stage).collect::<Vec<_>>()
        };
        Self {
            input: Convolution::new(*input, &mut under_at(source, "input", before)),
            time: TimeEmbedding::new(
                time.sinusoid.width,
                time.width,
                time.activation,
                &mut under_at(source, "time", before),
            ),
            added: added.map(|added| {
                let source = &mut under_at(source, "added", before);
                TimeEmbedding::new(added.inputs, time.width, Activation::Silu, source)
            }),
            down: stages("down", down, before - 1, source),
            middle: {
                let source = &mut under_at(source, "middle", up.len() + 1);
                Stage::new(middle, middle.inputs.len().saturating_sub(1), source)
            },
            up: stages("up", up, up.len(), source),
            norm: GroupNorm::new(*norm, output.inputs, &mut under(source, "norm")),
            output: Convolution::new(*output, &mut under(source, "output")),
            config: config.clone(),
        }
    }

    /// Sizes and variants.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Sets in which numbers the products of attention read their operands.
    pub(super) fn set_precision(&mut self, precision: Precision) {
        let stages = self.down.iter_mut().chain([&mut self.middle]).chain(&mut self.up);
        stages.for_each(|stage| stage.set_precision(precision));
    }

    /// What the network tells of the pictures, `[batch, channels, height, width]`.
    pub fn forward(&self, inputs: &UNetInputs, mode: Mode) -> Tensor<4> {
        self.forward_with(inputs, mode, &mut |_, _| {})
    }

    /// As [`Self::forward`]; `seen` is shown the output of each stage, by its path.
    pub fn forward_with(&self, inputs: &UNetInputs, mode: Mode, seen: &mut dyn FnMut(&str, &Tensor<4>)) -> Tensor<4> {
        let condition = self.condition(inputs, mode);
        let mut x = self.input.forward(inputs.sample.clone());
        let mut skips = vec![x.clone()];
        for (index, stage) in self.down.iter().enumerate() {
            x = stage.down(x, &condition, &mut skips);
            seen(&format!("down.{index}"), &x);
        }
        x = self.middle.middle(x, &condition);
        seen("middle", &x);
        for (index, stage) in self.up.iter().enumerate() {
            x = stage.up(x, &condition, &mut skips);
            seen(&format!("up.{index}"), &x);
        }
        self.output.forward(activated(self.norm.forward(x), self.config.activation))
    }

    /// What all blocks are told.
    fn condition(&self, inputs: &UNetInputs, mode: Mode) -> Condition {
        let device = self.device();
        let waves = self.config.time.sinusoid.tensor(&inputs.times, &device);
        let mut embedded = self.time.forward(waves, mode);
        if let (Some(map), Some(config), Some(added)) = (&self.added, self.config.added, &inputs.added) {
            let [batch, _] = added.pooled.dims();
            let waves = config.sinusoid.tensor(&added.numbers, &device);
            let width = waves.dims()[0] / batch.max(1) * config.sinusoid.width;
            let both = Tensor::cat(vec![added.pooled.clone(), waves.reshape([batch, width])], 1);
            embedded = embedded + map.forward(both, mode);
        }
        // The function of the embedding is the same in every block.
        let time = activate(embedded.unsqueeze_dim(1), self.config.activation);
        Condition { time, text: inputs.text.clone(), mode }
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.output.device()
    }
}
