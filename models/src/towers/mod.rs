//! [`Towers`]: two towers that embed images and texts into one space (Radford et al. 2021, arXiv:2103.00020).
//!
//! ```text
//! ids    -> embed -> blocks (causal) -> norm -> the end token's state -> project \
//!                                                                                  > temperature * cosine
//! pixels -> embed -> norm -> blocks (full) -> the class state -> norm -> project /
//! ```

mod config;
mod text;
mod vision;

pub use config::{EndOfText, TextConfig, TowersConfig, VisionConfig};
pub use text::{TextInputs, TextTower};
pub use vision::VisionTower;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use firebrand_kernels::Precision;

use crate::adapter::{Placed, Site};
use crate::parameters::{ParameterSource, Role, join, under, vector};
use crate::parts::{Maps, maps};

/// A text tower and an image tower, and the logarithm of the factor on their cosines.
#[derive(Module, Debug)]
pub struct Towers {
    text: TextTower,
    vision: VisionTower,
    /// `[1]`.
    temperature: Param<Tensor<1>>,
    #[module(skip)]
    config: TowersConfig,
    #[module(skip)]
    precision: Precision,
}

maps!(Towers { text, vision });

impl Towers {
    /// Path of the logarithm of the factor on cosines.
    pub const TEMPERATURE: &str = "temperature";

    /// Reads every parameter from `source`.
    pub fn new(config: &TowersConfig, source: &mut dyn ParameterSource) -> Self {
        Self {
            text: TextTower::new(&config.text, config.embedding, &mut under(source, "text")),
            vision: VisionTower::new(&config.vision, config.embedding, &mut under(source, "vision")),
            temperature: vector(source, Self::TEMPERATURE, 1, Role::Vector, config.temperature),
            config: config.clone(),
            precision: Precision::F32,
        }
    }

    /// Sizes and variants.
    pub fn config(&self) -> &TowersConfig {
        &self.config
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Sets in which numbers the products of attention read their operands.
    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.text.set_precision(precision);
        self.vision.set_precision(precision);
    }

    /// The text tower.
    pub fn text(&self) -> &TextTower {
        &self.text
    }

    /// The image tower.
    pub fn vision(&self) -> &VisionTower {
        &self.vision
    }

    /// The logarithm of the factor on cosines, `[1]`.
    pub fn temperature(&self) -> Tensor<1> {
        self.temperature.val()
    }

    /// The same towers with the temperature `[1]` replaced by `change` of it; a frozen temperature is not changed.
    pub fn with_temperature(mut self, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> Self {
        if self.temperature.val().is_require_grad() {
            self.temperature = self.temperature.map(|value| Tensor::from_inner(change(value.inner())).require_grad());
        }
        self
    }

    /// The places for adapters, by the path of the parameter that is adapted.
    pub(crate) fn sites_mut(&mut self) -> Vec<(String, Site<'_>)> {
        let mut maps = vec![];
        let tokens = self.text.sites_mut("text", &mut maps);
        self.vision.maps_mut("vision", &mut maps);
        let mut sites: Vec<(String, Site<'_>)> =
            maps.into_iter().map(|(path, map)| (join(&path, "weight"), Site::Linear(map))).collect();
        let [rows, width] = [self.config.text.vocab_size, self.config.text.block.width];
        sites.push((join("text", TextTower::EMBEDDING), Site::Tokens(tokens, [width, rows])));
        sites
    }

    /// The adapter of the token table, if there is one.
    pub(crate) fn outer_adapters(&self) -> Vec<Placed<'_>> {
        let place = (join("text", TextTower::EMBEDDING), join("text", "embed"));
        self.text.token_adapter().map(|lora| Placed::tokens(&place.0, &place.1, lora)).into_iter().collect()
    }

    /// Merges the adapter of the token table into it.
    pub(crate) fn merge_outer_adapters(&mut self) {
        self.text.merge_tokens();
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.text.device()
    }
}
