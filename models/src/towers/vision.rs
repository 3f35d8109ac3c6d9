//! [`VisionTower`]: from pixels to embeddings of images.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use firebrand_adapters::{Linear, Mode};
use firebrand_kernels::Precision;

use super::VisionConfig;
use crate::parameters::{ParameterSource, Role, linear_from, under, under_at};
use crate::parts::{Block, Context, Norm, Patches, Position, maps};

/// A transformer over patches whose class state is projected into the common space.
#[derive(Module, Debug)]
pub struct VisionTower {
    embed: Patches,
    /// The norm before the first block.
    norm_before: Norm,
    layers: Vec<Block>,
    norm: Norm,
    project: Linear,
    #[module(skip)]
    config: VisionConfig,
}

maps!(VisionTower { layers, project });

impl VisionTower {
    /// Reads every parameter from `source`; `embedding` is the width of the common space.
    pub fn new(config: &VisionConfig, embedding: usize, source: &mut dyn ParameterSource) -> Self {
        let (width, before) = (config.block.width, config.layers + 1);
        Self {
            embed: Patches::new(config.patches, &mut under_at(source, "embed", before)),
            norm_before: Norm::new(config.block.norm, width, &mut under_at(source, "norm_before", before)),
            layers: Block::stack(&config.block, config.layers, source),
            norm: Norm::new(config.block.norm, width, &mut under(source, "norm")),
            project: linear_from(source, "project", [embedding, width], false, Role::Projection, config.project),
            config: config.clone(),
        }
    }

    /// Sizes and variants.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Sets in which numbers the products of attention read their operands.
    pub(super) fn set_precision(&mut self, precision: Precision) {
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

    /// Embedded patches `[images, 1 + patches, width]` of pixels `[images, channels, image, image]`.
    pub fn embed(&self, pixels: Tensor<4>) -> Tensor<3> {
        self.norm_before.forward(self.embed.forward(pixels))
    }

    /// Turns the output of the last block, `[images, 1 + patches, width]`, into embeddings `[images, embedding]`, not
    /// normalised.
    pub fn finish(&self, x: Tensor<3>, mode: Mode) -> Tensor<2> {
        let class = x.slice_dim(1, 0..1);
        let embedded = self.project.forward(self.norm.forward(class), mode);
        let [images, _, embedding] = embedded.dims();
        embedded.reshape([images, embedding])
    }

    /// Embeddings `[images, embedding]`, not normalised.
    pub fn forward(&self, pixels: Tensor<4>, mode: Mode) -> Tensor<2> {
        let context = self.context(mode);
        let x = self.layers.iter().fold(self.embed(pixels), |x, layer| layer.forward(x, &context, None));
        self.finish(x, mode)
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.embed.device()
    }
}
