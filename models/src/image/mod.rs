//! [`ImageEncoder`]: a transformer over the patches of an image, which a linear head may classify (Oquab et al. 2023,
//! arXiv:2304.07193).
//!
//! ```text
//! pixels -> embed -> blocks (full) -> norm -> [ class state | mean of the patches' states ] -> score
//! ```

mod config;

pub use config::ImageConfig;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_kernels::{Precision, linear};

use crate::adapter::Site;
use crate::parameters::{Initial, ParameterSource, Role, frozen, join, tensor, under, under_at, vector};
use crate::parts::{Block, Context, Maps, Norm, Patches, Position, maps};

/// A transformer over patches, and perhaps its head.
#[derive(Module, Debug)]
pub struct ImageEncoder {
    embed: Patches,
    layers: Vec<Block>,
    norm: Norm,
    score: Option<Score>,
    #[module(skip)]
    config: ImageConfig,
    #[module(skip)]
    precision: Precision,
}

maps!(ImageEncoder { layers });

/// The map from features to a score for each class.
#[derive(Module, Debug)]
pub struct Score {
    /// `[classes, features]`.
    weight: Param<Tensor<2>>,
    /// `[classes]`.
    bias: Param<Tensor<1>>,
}

/// Images of one size, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Row-major values of `shape`.
    pub values: Vec<f32>,
    /// `[images, channels, height, width]`.
    pub shape: [usize; 4],
}

impl Pixels {
    /// The images on a device.
    pub fn tensor(&self, device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(self.values.clone(), self.shape), device)
    }
}

impl Score {
    fn new(config: &ImageConfig, classes: usize, source: &mut dyn ParameterSource) -> Self {
        let source = &mut under(source, "score");
        Self {
            weight: tensor(source, "weight", [classes, config.features()], Role::Head, Initial::Normal),
            bias: vector(source, "bias", classes, Role::Bias, 0.0),
        }
    }
}

impl ImageEncoder {
    /// Path of the matrix of scores.
    pub const SCORE: &str = "score.weight";
    /// Path of the bias of scores.
    const SCORE_BIAS: &str = "score.bias";
    /// Path of the embedding of hidden patches, which no forward pass reads.
    pub const MASK: &str = "embed.mask";

    /// Reads every parameter from `source`.
    pub fn new(config: &ImageConfig, source: &mut dyn ParameterSource) -> Self {
        let width = config.block.width;
        Self {
            embed: Patches::new(config.patches, &mut under_at(source, "embed", config.layers + 1)),
            layers: Block::stack(&config.block, config.layers, source),
            norm: Norm::new(config.block.norm, width, &mut under(source, "norm")),
            score: config.classes.map(|classes| Score::new(config, classes, source)),
            config: config.clone(),
            precision: Precision::F32,
        }
    }

    /// Gives it a frozen head for `classes` classes, in place of any other.
    pub(crate) fn become_classifier(&mut self, classes: usize, source: &mut dyn ParameterSource) {
        let Score { weight, bias } = Score::new(&self.config, classes, source);
        self.score = Some(Score { weight: frozen(weight.val()), bias: frozen(bias.val()) });
        self.config.classes = Some(classes);
    }

    /// Whether the parameter at `path` belongs to the head.
    pub(crate) fn is_of_head(path: &str) -> bool {
        path == Self::SCORE || path == Self::SCORE_BIAS
    }

    /// Sizes and variants.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Sets in which numbers the products of attention read their operands.
    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.layers.iter_mut().for_each(|layer| layer.set_precision(precision));
    }

    /// The blocks, for callers that drive them one by one.
    pub fn layers(&self) -> &[Block] {
        &self.layers
    }

    /// What the blocks share: the mode.
    pub fn context(&self, mode: Mode) -> Context {
        Context { position: Position::learned(), segments: None, mode, routing: None }
    }

    /// Embedded patches `[images, before + patches, width]` of pixels `[images, channels, height, width]`.
    pub fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        self.embed.forward(pixels)
    }

    /// Turns the output of the last block, `[images, before + patches, width]`, into the states that are read.
    pub fn finish(&self, x: Tensor<3>) -> Tensor<3> {
        self.norm.forward(x)
    }

    /// The features `[images, 2 width]` of states `[images, before + patches, width]`: the class state, and the mean of the
    /// patches' states.
    pub fn features(&self, states: Tensor<3>) -> Tensor<2> {
        let [images, length, width] = states.dims();
        let class = states.clone().slice_dim(1, 0..1);
        let patches = states.slice_dim(1, self.config.patches.before()..length).mean_dim(1);
        Tensor::cat(vec![class, patches], 2).reshape([images, 2 * width])
    }

    /// The scores `[images, classes]` of features `[images, 2 width]`, where there is a head.
    pub fn scores(&self, features: Tensor<2>) -> Option<Tensor<2>> {
        let score = self.score.as_ref()?;
        Some(linear(features, score.weight.val(), Precision::F32) + score.bias.val().unsqueeze())
    }

    /// The states `[images, before + patches, width]` of pixels `[images, channels, height, width]`.
    pub fn forward(&self, pixels: Tensor<4>, mode: Mode) -> Tensor<3> {
        let context = self.context(mode);
        let x = self.layers.iter().fold(self.embed(pixels), |x, layer| layer.forward(x, &context, None));
        self.finish(x)
    }

    /// The places for adapters, by the path of the parameter that is adapted.
    pub(crate) fn sites_mut(&mut self) -> Vec<(String, Site<'_>)> {
        let mut maps = vec![];
        self.maps_mut("", &mut maps);
        maps.into_iter().map(|(path, map)| (join(&path, "weight"), Site::Linear(map))).collect()
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.embed.device()
    }
}
