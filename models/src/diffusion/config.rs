//! The configuration of diffusion models: [`DiffusionConfig`] holds the sizes and variants that a family decides.

use std::path::PathBuf;

use firebrand_kernels::Activation;

use super::convolution::ConvolutionConfig;
use super::group_norm::GroupNormConfig;
use super::sampler::SamplerConfig;
use super::schedule::Schedule;
use super::stage::StageConfig;
use super::time::Sinusoid;
use super::vae::VaeConfig;
use crate::picture_inputs::{CaptionInput, PictureInputs};
use crate::towers::TextConfig;

/// Sizes and variants of the network of a diffusion pipeline, and how its pictures become noise.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffusionConfig {
    /// The network.
    pub unet: UNetConfig,
    /// How pictures become noise; absent where no file says so.
    pub schedule: Option<Schedule>,
    /// How noise becomes pictures; absent where no file says so, or in a way that is not supported.
    pub sampler: Option<SamplerConfig>,
    /// The frozen networks around it; absent where there are none that are supported.
    pub parts: Option<PartsConfig>,
}

impl DiffusionConfig {
    /// What the pipeline reads of rows with pictures; absent without its autoencoder and its text encoders, or where no file
    /// says how large its pictures are.
    pub fn pictures(&self) -> Option<PictureInputs> {
        let parts = self.parts.as_ref()?;
        let names = [("tokenizer", "input_ids"), ("tokenizer_2", "input_ids_2")];
        let caption = |((folder, name), text): ((&'static str, &'static str), &TextConfig)| CaptionInput {
            folder,
            name,
            longest: text.max_positions,
            padded: true,
        };
        Some(PictureInputs {
            captions: names.into_iter().zip(&parts.texts).map(caption).collect(),
            resolution: Some(self.unet.sample? * parts.vae.shrinks()),
            told_sizes: self.unet.added.is_some(),
            drawn_latents: true,
        })
    }
}

/// The frozen networks of a pipeline, and where they are.
#[derive(Debug, Clone, PartialEq)]
pub struct PartsConfig {
    /// The folder of the pipeline.
    pub folder: PathBuf,
    /// The autoencoder.
    pub vae: VaeConfig,
    /// The text encoders: one, or two of which the second pools.
    pub texts: Vec<TextConfig>,
    /// Whether a picture is guided away from nothing at all where nothing is to be avoided, in place of the empty text
    /// (`force_zeros_for_empty_prompt` of `model_index.json`).
    pub silent_without_prompt: bool,
}

/// Sizes and variants of a UNet.
#[derive(Debug, Clone, PartialEq)]
pub struct UNetConfig {
    /// The first convolution.
    pub input: ConvolutionConfig,
    /// The last one.
    pub output: ConvolutionConfig,
    /// The norm before the last convolution.
    pub norm: GroupNormConfig,
    /// The function behind that norm.
    pub activation: Activation,
    /// The embedding of the time.
    pub time: EmbeddedTime,
    /// What is added to it; absent: nothing.
    pub added: Option<AddedEmbedding>,
    /// Width of the states of the text.
    pub text: usize,
    /// The stages on the way down, from the first.
    pub down: Vec<StageConfig>,
    /// The stage in the middle.
    pub middle: StageConfig,
    /// The stages on the way up, from the deepest.
    pub up: Vec<StageConfig>,
    /// Height and width of the pictures it was made for, in its own pixels; absent where no file says so.
    pub sample: Option<usize>,
}

/// Sizes of the embedding of the time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddedTime {
    /// The waves by which the time is told.
    pub sinusoid: Sinusoid,
    /// Width of the embedding.
    pub width: usize,
    /// The function between its two maps.
    pub activation: Activation,
}

/// Sizes of an embedding of a text as one vector and of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AddedEmbedding {
    /// The waves by which each number is told.
    pub sinusoid: Sinusoid,
    /// Width of the vector and of all waves.
    pub inputs: usize,
}

impl UNetConfig {
    /// Channels of the pictures that it reads.
    pub fn channels(&self) -> usize {
        self.input.inputs
    }
}
