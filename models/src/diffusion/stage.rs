//! [`Stage`]: the blocks of a UNet that work at one resolution.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use firebrand_adapters::Mode;
use firebrand_kernels::Precision;

use super::convolution::{Convolution, ConvolutionConfig};
use super::resnet::{ResnetBlock, ResnetConfig};
use super::spatial::{SpatialConfig, SpatialTransformer};
use crate::parameters::{ParameterSource, under};
use crate::parts::maps;

/// Sizes and variants of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageConfig {
    /// Channels that each resnet block reads.
    pub inputs: Vec<usize>,
    /// Channels that each resnet block gives.
    pub channels: usize,
    /// The resnet blocks.
    pub resnet: ResnetConfig,
    /// The transformers behind resnet blocks; absent: there are none.
    pub spatial: Option<SpatialConfig>,
    /// The convolution that halves or doubles height and width; absent: they stay.
    pub resample: Option<ConvolutionConfig>,
}

/// What all blocks of a UNet are told.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The activated embedding of the time, and of what else a row is told in one vector, `[batch, 1, width]`.
    pub time: Tensor<3>,
    /// The states of the text, `[batch, tokens, width]`.
    pub text: Tensor<3>,
    /// Training or inference.
    pub mode: Mode,
}

/// Resnet blocks with transformers between, and a change of resolution.
#[derive(Module, Debug)]
pub struct Stage {
    resnets: Vec<ResnetBlock>,
    transformers: Vec<SpatialTransformer>,
    resample: Option<Convolution>,
}

maps!(Stage { resnets, transformers });

impl Stage {
    /// Reads a stage with as many `transformers`, if it has any.
    pub fn new(config: &StageConfig, transformers: usize, source: &mut dyn ParameterSource) -> Self {
        let StageConfig { inputs, channels, resnet, spatial, resample } = config;
        let blocks = inputs.iter().enumerate();
        let resnets = blocks.map(|(index, inputs)| {
            ResnetBlock::new(*resnet, *inputs, *channels, &mut under(source, format!("resnets.{index}")))
        });
        let resnets = resnets.collect();
        let mut transformer = |index: usize, spatial: SpatialConfig| {
            SpatialTransformer::new(spatial, *channels, &mut under(source, format!("transformers.{index}")))
        };
        let transformers =
            spatial.iter().flat_map(|spatial| (0..transformers).map(|index| (index, *spatial)).collect::<Vec<_>>());
        let transformers = transformers.map(|(index, spatial)| transformer(index, spatial)).collect();
        let resample = resample.map(|config| Convolution::new(config, &mut under(source, "resample")));
        Self { resnets, transformers, resample }
    }

    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.transformers.iter_mut().for_each(|transformer| transformer.set_precision(precision));
    }

    /// Number of resnet blocks.
    pub fn len(&self) -> usize {
        self.resnets.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.resnets.is_empty()
    }

    /// On the way down: keeps every state in `skips`.
    pub fn down(&self, mut x: Tensor<4>, condition: &Condition, skips: &mut Vec<Tensor<4>>) -> Tensor<4> {
        for (index, resnet) in self.resnets.iter().enumerate() {
            x = self.transformed(index, resnet.forward(x, Some(&condition.time), condition.mode), condition);
            skips.push(x.clone());
        }
        if let Some(convolution) = &self.resample {
            x = convolution.forward(x);
            skips.push(x.clone());
        }
        x
    }

    /// In the middle: a transformer stands between two resnet blocks.
    pub fn middle(&self, mut x: Tensor<4>, condition: &Condition) -> Tensor<4> {
        for (index, resnet) in self.resnets.iter().enumerate() {
            if let Some(before) = index.checked_sub(1) {
                x = self.transformed(before, x, condition);
            }
            x = resnet.forward(x, Some(&condition.time), condition.mode);
        }
        x
    }

    /// On the way up: each resnet block also reads the last state that is left in `skips`. Height and width grow to those of
    /// the next one.
    pub fn up(&self, mut x: Tensor<4>, condition: &Condition, skips: &mut Vec<Tensor<4>>) -> Tensor<4> {
        for (index, resnet) in self.resnets.iter().enumerate() {
            let both = skips.pop().into_iter().fold(x, |x, skip| Tensor::cat(vec![x, skip], 1));
            x = self.transformed(index, resnet.forward(both, Some(&condition.time), condition.mode), condition);
        }
        match (&self.resample, skips.last()) {
            (Some(convolution), Some(next)) => {
                let [_, _, height, width] = next.dims();
                convolution.forward(resized(x, [height, width]))
            }
            (Some(_), None) | (None, _) => x,
        }
    }

    /// Without times, texts and skips, on the way down.
    pub(super) fn halve(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.resnets.iter().fold(x, |x, resnet| resnet.forward(x, None, Mode::Inference));
        self.resample.iter().fold(x, |x, convolution| convolution.forward(x))
    }

    /// The same on the way up.
    pub(super) fn double(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.resnets.iter().fold(x, |x, resnet| resnet.forward(x, None, Mode::Inference));
        self.resample.iter().fold(x, |x, convolution| {
            let [_, _, height, width] = x.dims();
            convolution.forward(resized(x, [2 * height, 2 * width]))
        })
    }

    fn transformed(&self, index: usize, x: Tensor<4>, condition: &Condition) -> Tensor<4> {
        match self.transformers.get(index) {
            Some(transformer) => transformer.forward(x, &condition.text, condition.mode),
            None => x,
        }
    }
}

/// The image with another height and width: each pixel is the nearest one.
pub(super) fn resized(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    interpolate(x, InterpolateOptions::new(InterpolateMode::Nearest).with_output_size(size))
}
