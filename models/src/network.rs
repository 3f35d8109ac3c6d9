//! [`Network`]: what a model computes, as a sum of kinds, independent of the names in its files.

use std::fmt;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebrand_adapters::Linear;
use firebrand_kernels::Precision;

use crate::adapter::{Placed, Site};
use crate::decoder::{Decoder, DecoderConfig, HeadConfig};
use crate::diffusion::{Diffusion, DiffusionConfig};
use crate::parameters::ParameterSource;
use crate::parts::{BlockConfig, Experts, Maps, maps};
use crate::towers::{Towers, TowersConfig};

/// A network of any kind. The kind is not part of a parameter's path.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "one a model")]
pub enum Network {
    /// A decoder-only transformer with an output head.
    Decoder(Decoder),
    /// A text tower and an image tower that embed into one space.
    Towers(Towers),
    /// A network that makes pictures out of noise.
    Diffusion(Diffusion),
}

maps!(
    enum Network {
        Decoder,
        Towers,
        Diffusion,
    }
);

/// The kinds of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A [`Network::Decoder`] that predicts tokens.
    Decoder,
    /// A [`Network::Decoder`] with a score for each class in place of its output head.
    Classifier,
    /// [`Network::Towers`].
    Towers,
    /// [`Network::Diffusion`].
    Diffusion,
}

impl Kind {
    /// All kinds.
    pub const ALL: &[Self] = &[Self::Decoder, Self::Classifier, Self::Towers, Self::Diffusion];

    /// Whether it scores classes.
    pub fn classifies(self) -> bool {
        match self {
            Self::Classifier => true,
            Self::Decoder | Self::Towers | Self::Diffusion => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decoder => "decoder",
            Self::Classifier => "sequence classifier",
            Self::Towers => "pair of towers",
            Self::Diffusion => "diffusion model",
        })
    }
}

/// Sizes and variants of a network of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum NetworkConfig {
    /// The configuration of a [`Network::Decoder`].
    Decoder(DecoderConfig),
    /// The configuration of [`Network::Towers`].
    Towers(TowersConfig),
    /// The configuration of a [`Network::Diffusion`].
    Diffusion(DiffusionConfig),
}

/// A stack of blocks, as the memory plan needs it.
#[derive(Debug, Clone, Copy)]
pub struct StackConfig<'a> {
    /// The blocks.
    pub block: &'a BlockConfig,
    /// Number of blocks.
    pub layers: usize,
    /// Number of positions in the residual stream, where the network fixes it; absent: the number of tokens.
    pub length: Option<usize>,
}

/// The token table and the output head of a network that has both, as two matrices or as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Path of the token table.
    pub embedding: &'static str,
    /// Path of the head's matrix; no parameter has this path while the two are tied.
    pub head: &'static str,
    /// Whether they are one matrix.
    pub tied: bool,
}

impl NetworkConfig {
    /// The kind of network that it configures.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Decoder(config) => kind_of(config),
            Self::Towers(_) => Kind::Towers,
            Self::Diffusion(_) => Kind::Diffusion,
        }
    }

    /// Number of classes of a sequence classifier.
    pub fn classes(&self) -> Option<usize> {
        self.decoder().and_then(|config| config.classes)
    }

    /// The same with as many classes, or as a network that predicts tokens.
    pub fn with_classes(self, classes: Option<usize>) -> Self {
        match self {
            Self::Decoder(config) => Self::Decoder(DecoderConfig { classes, ..config }),
            other @ (Self::Towers(_) | Self::Diffusion(_)) => other,
        }
    }

    /// Whether the parameter at `path` belongs to the output head.
    pub fn is_of_head(&self, path: &str) -> bool {
        self.decoder().is_some() && Decoder::is_of_head(path)
    }

    /// The id with which texts are padded.
    pub fn padding(&self) -> Option<usize> {
        self.decoder().and_then(|config| config.padding)
    }

    /// The path of the matrix of scores, in a network that may have one.
    pub fn score(&self) -> Option<&'static str> {
        self.decoder().map(|_| Decoder::SCORE)
    }

    /// The configuration of a decoder, if it is one.
    pub fn decoder(&self) -> Option<&DecoderConfig> {
        match self {
            Self::Decoder(config) => Some(config),
            Self::Towers(_) | Self::Diffusion(_) => None,
        }
    }

    /// Its stacks of blocks, in the order in which they run.
    pub fn stacks(&self) -> Vec<StackConfig<'_>> {
        match self {
            Self::Decoder(config) => vec![StackConfig { block: &config.block, layers: config.layers, length: None }],
            Self::Towers(TowersConfig { text, vision, .. }) => vec![
                StackConfig { block: &text.block, layers: text.layers, length: Some(text.max_positions) },
                StackConfig { block: &vision.block, layers: vision.layers, length: Some(vision.patches.length()) },
            ],
            // Its stages are no stacks of equal blocks.
            Self::Diffusion(_) => vec![],
        }
    }

    /// The token table and the head, where the network has both.
    pub fn ends(&self) -> Option<Ends> {
        match self {
            Self::Decoder(config) if config.classes.is_none() => {
                Some(Ends { embedding: Decoder::EMBEDDING, head: Decoder::HEAD, tied: config.head.tied })
            }
            Self::Decoder(_) | Self::Towers(_) | Self::Diffusion(_) => None,
        }
    }

    /// The same with token table and head tied or not; a network without both is not changed.
    pub fn with_tied(self, tied: bool) -> Self {
        match self {
            Self::Decoder(mut config) => {
                config.head.tied = tied;
                Self::Decoder(config)
            }
            other @ (Self::Towers(_) | Self::Diffusion(_)) => other,
        }
    }

    /// Whether both compute the same: they may differ in training settings and in how the head is stored.
    pub fn computes_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Decoder(base), Self::Decoder(other)) => {
                *base
                    == DecoderConfig {
                        max_positions: base.max_positions,
                        padding_token: base.padding_token,
                        padding: base.padding,
                        initializer_range: base.initializer_range,
                        head: HeadConfig { tied: base.head.tied, ..other.head },
                        ..other.clone()
                    }
            }
            (Self::Towers(base), Self::Towers(other)) => {
                *base
                    == TowersConfig {
                        temperature: base.temperature,
                        initializer_range: base.initializer_range,
                        ..other.clone()
                    }
            }
            (Self::Diffusion(base), Self::Diffusion(other)) => base.unet == other.unet,
            (Self::Decoder(_), _) | (Self::Towers(_), _) | (Self::Diffusion(_), _) => false,
        }
    }

    /// Standard deviation of new matrices.
    pub fn initializer_range(&self) -> f64 {
        match self {
            Self::Decoder(config) => config.initializer_range,
            Self::Towers(config) => config.initializer_range,
            // All of its parameters have deviations of their own.
            Self::Diffusion(_) => 0.0,
        }
    }
}

impl Network {
    /// Reads every parameter from `source`.
    pub fn new(config: &NetworkConfig, source: &mut dyn ParameterSource) -> Self {
        match config {
            NetworkConfig::Decoder(config) => Self::Decoder(Decoder::new(config, source)),
            NetworkConfig::Towers(config) => Self::Towers(Towers::new(config, source)),
            NetworkConfig::Diffusion(config) => Self::Diffusion(Diffusion::new(config, source)),
        }
    }

    /// The kind of this network.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Decoder(decoder) => kind_of(decoder.config()),
            Self::Towers(_) => Kind::Towers,
            Self::Diffusion(_) => Kind::Diffusion,
        }
    }

    /// Puts a score for each class in the place of the output head; a network without one is not changed.
    pub(crate) fn become_classifier(&mut self, classes: usize, source: &mut dyn ParameterSource) {
        match self {
            Self::Decoder(decoder) => decoder.become_classifier(classes, source),
            Self::Towers(_) | Self::Diffusion(_) => {}
        }
    }

    /// Sets the id with which texts are padded, where a classifier passes by it.
    pub(crate) fn set_padding(&mut self, id: usize) {
        match self {
            Self::Decoder(decoder) => decoder.set_padding(id),
            Self::Towers(_) | Self::Diffusion(_) => {}
        }
    }

    /// Its present sizes and variants.
    pub fn config(&self) -> NetworkConfig {
        match self {
            Self::Decoder(decoder) => NetworkConfig::Decoder(decoder.config().clone()),
            Self::Towers(towers) => NetworkConfig::Towers(towers.config().clone()),
            Self::Diffusion(diffusion) => NetworkConfig::Diffusion(diffusion.config().clone()),
        }
    }

    /// The token table and the head, where the network has both.
    pub fn ends(&self) -> Option<Ends> {
        self.config().ends()
    }

    /// All linear maps except the head, with their paths.
    pub fn linears(&self) -> Vec<(String, &Linear)> {
        let mut found = vec![];
        self.maps("", &mut found);
        found
    }

    /// As [`Self::linears`], by mutable reference.
    pub fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let mut found = vec![];
        self.maps_mut("", &mut found);
        found
    }

    /// What [`Self::set_precision`] set.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Decoder(decoder) => decoder.precision(),
            Self::Towers(towers) => towers.precision(),
            Self::Diffusion(diffusion) => diffusion.precision(),
        }
    }

    /// Sets in which numbers products read their operands: linear maps, attention and the output head. This is the one place that says
    /// which do. LoRA without dropout is computed with its map. Routers, scores, norms, positions, activations, residuals, losses and other
    /// adapters are computed in f32.
    pub fn set_precision(&mut self, precision: Precision) {
        for (path, map) in self.linears_mut() {
            map.set_precision(if path.ends_with(Experts::ROUTER) { Precision::F32 } else { precision });
        }
        match self {
            Self::Decoder(decoder) => decoder.set_precision(precision),
            Self::Towers(towers) => towers.set_precision(precision),
            Self::Diffusion(diffusion) => diffusion.set_precision(precision),
        }
    }

    /// The places for adapters, by the path of the parameter that is adapted.
    pub(crate) fn sites_mut(&mut self) -> Vec<(String, Site<'_>)> {
        match self {
            Self::Decoder(decoder) => decoder.sites_mut(),
            Self::Towers(towers) => towers.sites_mut(),
            Self::Diffusion(diffusion) => diffusion.sites_mut(),
        }
    }

    /// The adapters on the network.
    pub(crate) fn adapters(&self) -> Vec<Placed<'_>> {
        let outer = match self {
            Self::Decoder(decoder) => decoder.outer_adapters(),
            Self::Towers(towers) => towers.outer_adapters(),
            Self::Diffusion(_) => vec![],
        };
        let mut placed: Vec<Placed<'_>> = vec![];
        for (path, map) in self.linears() {
            placed.extend(Placed::linear(&path, map));
        }
        placed.extend(outer);
        placed
    }

    /// Gives a tied head a matrix of its own.
    pub(crate) fn untie(&mut self) {
        match self {
            Self::Decoder(decoder) => decoder.untie(),
            Self::Towers(_) | Self::Diffusion(_) => {}
        }
    }

    /// Replaces what has a row for each token by what `change` makes of it, given its path and `[rows, any]`.
    pub(crate) fn replace_vocabulary(&mut self, rows: usize, change: &mut dyn FnMut(&str, Tensor<2>) -> Tensor<2>) {
        match self {
            Self::Decoder(decoder) => decoder.replace_vocabulary(rows, change),
            Self::Towers(_) | Self::Diffusion(_) => {}
        }
    }

    /// Merges all adapters into their weights, in f32; quantized weights become dense. If a tied table or head was
    /// adapted, the head has a matrix of its own afterwards.
    pub(crate) fn merge(&mut self) {
        self.linears_mut().into_iter().for_each(|(_, map)| map.merge());
        match self {
            Self::Decoder(decoder) => decoder.merge_outer_adapters(),
            Self::Towers(towers) => towers.merge_outer_adapters(),
            Self::Diffusion(_) => {}
        }
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        match self {
            Self::Decoder(decoder) => decoder.device(),
            Self::Towers(towers) => towers.device(),
            Self::Diffusion(diffusion) => diffusion.device(),
        }
    }
}

fn kind_of(config: &DecoderConfig) -> Kind {
    if config.classes.is_some() { Kind::Classifier } else { Kind::Decoder }
}
