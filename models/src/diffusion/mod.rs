//! [`Diffusion`]: networks that make pictures out of noise, guided by texts (Rombach et al. 2021, arXiv:2112.10752).
//!
//! The trained network is a [`UNet`]: it reads a noisy picture, a time and the states of a text, and tells the noise.
//! [`Schedule`] says how pictures become noise, and [`Sampler`] how noise becomes pictures. [`Vae`] and [`TextEncoder`] are the
//! frozen networks around it.

mod config;
mod convolution;
mod deviation;
mod group_norm;
mod resnet;
mod sample;
mod sampler;
mod schedule;
mod spatial;
mod stage;
mod text;
mod time;
mod unet;
mod vae;

pub use config::{AddedEmbedding, DiffusionConfig, EmbeddedTime, PartsConfig, UNetConfig};
pub use convolution::{Convolution, ConvolutionConfig};
pub use group_norm::{GroupNorm, GroupNormConfig};
pub use resnet::{ResnetBlock, ResnetConfig};
pub use sample::{Asked, sample};
pub use sampler::{Method, Sampler, SamplerConfig, Spacing};
pub use schedule::{Betas, Schedule, Target};
pub use spatial::{SpatialConfig, SpatialTransformer};
pub use stage::{Condition, Stage, StageConfig};
pub use text::{EncodedText, TextEncoder};
pub use time::{Sinusoid, TimeEmbedding};
pub use unet::{AddedInputs, UNet, UNetInputs};
pub use vae::{Latents, Vae, VaeConfig};

use burn::module::Module;
use burn::tensor::Device;
use firebrand_kernels::Precision;

use crate::adapter::Site;
use crate::parameters::{ParameterSource, join, under};
use crate::parts::{Maps, maps};

/// The trained network of a diffusion pipeline.
#[derive(Module, Debug)]
pub struct Diffusion {
    unet: UNet,
    #[module(skip)]
    config: DiffusionConfig,
    #[module(skip)]
    precision: Precision,
}

maps!(Diffusion { unet });

impl Diffusion {
    /// Reads every parameter from `source`.
    pub fn new(config: &DiffusionConfig, source: &mut dyn ParameterSource) -> Self {
        let unet = UNet::new(&config.unet, &mut under(source, "unet"));
        Self { unet, config: config.clone(), precision: Precision::F32 }
    }

    /// Sizes and variants.
    pub fn config(&self) -> &DiffusionConfig {
        &self.config
    }

    /// The network.
    pub fn unet(&self) -> &UNet {
        &self.unet
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Sets in which numbers the products of attention read their operands.
    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.unet.set_precision(precision);
    }

    /// The places for adapters, by the path of the parameter that is adapted.
    pub(crate) fn sites_mut(&mut self) -> Vec<(String, Site<'_>)> {
        let mut maps = vec![];
        self.unet.maps_mut("unet", &mut maps);
        maps.into_iter().map(|(path, map)| (join(&path, "weight"), Site::Linear(map))).collect()
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.unet.device()
    }
}
