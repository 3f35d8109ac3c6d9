//! [`Vae`]: from pictures to latents and back (Kingma & Welling 2013, arXiv:1312.6114; Esser et al. 2020, arXiv:2012.09841).
//!
//! ```text
//! picture -> input -> down -> ... -> middle -> norm -> output -> mean and logarithm of the variance of latents
//! latents -> input -> middle -> up -> ... -> norm -> output -> picture
//! ```
//! It is always frozen here.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::Mode;

use super::convolution::{Convolution, ConvolutionConfig};
use super::group_norm::GroupNorm;
use super::resnet::{ResnetBlock, ResnetConfig, activated};
use super::spatial::{CrossAttention, image, tokens};
use super::stage::{Stage, StageConfig};
use crate::parameters::{ParameterSource, under};

/// Sizes and variants of a [`Vae`].
#[derive(Debug, Clone, PartialEq)]
pub struct VaeConfig {
    /// Channels of pictures.
    pub pictures: usize,
    /// Channels of latents.
    pub latents: usize,
    /// Channels of each stage on the way down, from the first.
    pub channels: Vec<usize>,
    /// Resnet blocks of each stage on the way down; there is one more on the way up.
    pub blocks: usize,
    /// The resnet blocks.
    pub resnet: ResnetConfig,
    /// Whether there is attention in the middle.
    pub attention: bool,
    /// Whether there is a convolution behind the encoder, and one before the decoder.
    pub between: [bool; 2],
    /// The factor by which latents are multiplied before a UNet reads them.
    pub scaling: f64,
}

impl VaeConfig {
    /// Pixels of a picture for one of its latents, along a side.
    pub fn shrinks(&self) -> usize {
        1 << (self.channels.len() - 1)
    }
}

/// The distribution of a picture's latents, not multiplied by the factor.
#[derive(Debug, Clone)]
pub struct Latents {
    /// `[batch, channels, height, width]`.
    pub mean: Tensor<4>,
    /// The logarithm of the variance, of the same shape.
    pub log_variance: Tensor<4>,
}

/// The network.
#[derive(Module, Debug)]
pub struct Vae {
    encoder: Half,
    decoder: Half,
    after_encoder: Option<Convolution>,
    before_decoder: Option<Convolution>,
    #[module(skip)]
    config: VaeConfig,
}

/// An encoder or a decoder.
#[derive(Module, Debug)]
pub struct Half {
    input: Convolution,
    stages: Vec<Stage>,
    middle: Middle,
    norm: GroupNorm,
    output: Convolution,
    #[module(skip)]
    config: ResnetConfig,
}

/// Two resnet blocks with attention between.
#[derive(Module, Debug)]
pub struct Middle {
    first: ResnetBlock,
    attention: Option<PixelAttention>,
    second: ResnetBlock,
}

/// `x + attention(norm(x))` among pixels, with one head.
#[derive(Module, Debug)]
pub struct PixelAttention {
    norm: GroupNorm,
    attention: CrossAttention,
}

impl Vae {
    /// Reads every parameter from `source`.
    pub fn new(config: &VaeConfig, source: &mut dyn ParameterSource) -> Self {
        let VaeConfig { pictures, latents, channels, blocks, .. } = config;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let stage = |inputs: Vec<usize>, channels: usize, resample| StageConfig {
            inputs,
            channels,
            resnet: config.resnet,
            spatial: None,
            resample,
        };
        let before = |from: usize, channels: usize, blocks: usize| {
            let mut inputs = vec![channels; blocks];
            inputs[0] = from;
            inputs
        };
        let count = channels.len();
        let down = (0..count).map(|at| {
            let halves = ConvolutionConfig {
                inputs: channels[at],
                outputs: channels[at],
                kernel: 3,
                stride: 2,
                // Zeros stand behind the picture only.
                padding: [0, 1],
            };
            let inputs = before(channels[at.saturating_sub(1)], channels[at], *blocks);
            stage(inputs, channels[at], (at + 1 < count).then_some(halves))
        });
        let up = (0..count).rev().map(|at| {
            let doubles = ConvolutionConfig::same(channels[at], channels[at], 3);
            let inputs = before(channels[(at + 1).min(count - 1)], channels[at], blocks + 1);
            stage(inputs, channels[at], (at > 0).then_some(doubles))
        });
        let moments = 2 * latents;
        let pointwise = |present: bool, channels: usize, name: &str, source: &mut dyn ParameterSource| {
            let config = ConvolutionConfig::same(channels, channels, 1);
            present.then(|| Convolution::new(config, &mut under(source, name)))
        };
        let [after, ahead] = config.between;
        Self {
            encoder: Half::new(config, [*pictures, first, last, moments], down, &mut under(source, "encoder")),
            decoder: Half::new(config, [*latents, last, first, *pictures], up, &mut under(source, "decoder")),
            after_encoder: pointwise(after, moments, "after_encoder", source),
            before_decoder: pointwise(ahead, *latents, "before_decoder", source),
            config: config.clone(),
        }
    }

    /// Sizes and variants.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// The latents of pictures `[batch, channels, height, width]`, whose values are within -1 and 1.
    pub fn encode(&self, pictures: Tensor<4>) -> Latents {
        let mut x = self.encoder.input.forward(pictures);
        for stage in &self.encoder.stages {
            x = stage.halve(x);
        }
        let x = self.encoder.finish(self.encoder.middle.forward(x));
        let x = self.after_encoder.iter().fold(x, |x, convolution| convolution.forward(x));
        let channels = self.config.latents;
        let mean = x.clone().slice_dim(1, 0..channels);
        // The reference's bounds, which keep the deviation finite.
        Latents { mean, log_variance: x.slice_dim(1, channels..2 * channels).clamp(-30.0, 20.0) }
    }

    /// The pictures of latents `[batch, channels, height, width]`, which are not multiplied by the factor.
    pub fn decode(&self, latents: Tensor<4>) -> Tensor<4> {
        let x = self.before_decoder.iter().fold(latents, |x, convolution| convolution.forward(x));
        let mut x = self.decoder.middle.forward(self.decoder.input.forward(x));
        for stage in &self.decoder.stages {
            x = stage.double(x);
        }
        self.decoder.finish(x)
    }
}

impl Half {
    /// `sizes` are the channels that it reads, those behind the first convolution, those before the last, and those it gives.
    fn new(
        config: &VaeConfig,
        [reads, first, last, gives]: [usize; 4],
        stages: impl Iterator<Item = StageConfig>,
        source: &mut dyn ParameterSource,
    ) -> Self {
        let stages: Vec<StageConfig> = stages.collect();
        // The middle is where the picture is smallest: there are the most channels.
        let middle = config.channels[config.channels.len() - 1];
        let input = Convolution::new(ConvolutionConfig::same(reads, first, 3), &mut under(source, "input"));
        let stage =
            |(at, stage): (usize, &StageConfig)| Stage::new(stage, 0, &mut under(source, format!("stages.{at}")));
        let stages = stages.iter().enumerate().map(stage).collect();
        Self {
            input,
            stages,
            middle: Middle::new(config, middle, &mut under(source, "middle")),
            norm: GroupNorm::new(config.resnet.norm, last, &mut under(source, "norm")),
            output: Convolution::new(ConvolutionConfig::same(last, gives, 3), &mut under(source, "output")),
            config: config.resnet,
        }
    }

    fn finish(&self, x: Tensor<4>) -> Tensor<4> {
        self.output.forward(activated(self.norm.forward(x), self.config.activation))
    }
}

impl Middle {
    fn new(config: &VaeConfig, channels: usize, source: &mut dyn ParameterSource) -> Self {
        let block = |name: &str, source: &mut dyn ParameterSource| {
            ResnetBlock::new(config.resnet, channels, channels, &mut under(source, name))
        };
        let first = block("first", source);
        let attention = config.attention.then(|| {
            let source = &mut under(source, "attention");
            let norm = GroupNorm::new(config.resnet.norm, channels, &mut under(source, "norm"));
            let source = &mut under(source, "attention");
            PixelAttention { norm, attention: CrossAttention::new(1, [channels; 2], true, source) }
        });
        Self { first, attention, second: block("second", source) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.first.forward(x, None, Mode::Inference);
        let x = self.attention.iter().fold(x, |x, attention| attention.forward(x));
        self.second.forward(x, None, Mode::Inference)
    }
}

impl PixelAttention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let pixels = tokens(self.norm.forward(x.clone()));
        let shape = x.dims();
        x + image(self.attention.forward(pixels.clone(), pixels, Mode::Inference), shape)
    }
}
