//! [`TextTower`]: from token ids to embeddings of texts.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::{Linear, Lora, Mode};
use firebrand_kernels::Precision;

use super::TextConfig;
use crate::parameters::{ParameterSource, Role, join, linear_from, under, under_at};
use crate::parts::{Block, Context, Embedding, Inputs, Maps, Norm, Position, maps};

/// A causal transformer whose state at the end of a text is projected into the common space.
#[derive(Module, Debug)]
pub struct TextTower {
    embed: Embedding,
    layers: Vec<Block>,
    norm: Norm,
    project: Linear,
    #[module(skip)]
    config: TextConfig,
}

maps!(TextTower { embed, layers, project });

/// Texts of equal length.
#[derive(Debug, Clone, PartialEq)]
pub struct TextInputs {
    /// Token ids `[texts, time]`, row-major.
    pub ids: Vec<u32>,
    /// Number of texts.
    pub texts: usize,
    /// As `ids`: 1 where a token may be seen, 0 in padding; absent: all may be seen.
    pub mask: Option<Vec<i32>>,
}

impl TextInputs {
    /// Number of tokens of each text.
    pub fn time(&self) -> usize {
        self.ids.len() / self.texts.max(1)
    }
}

impl TextTower {
    /// Path of the token table in the tower.
    pub const EMBEDDING: &str = "embed.tokens";

    /// Reads every parameter from `source`; `embedding` is the width of the common space.
    pub fn new(config: &TextConfig, embedding: usize, source: &mut dyn ParameterSource) -> Self {
        let width = config.block.width;
        Self {
            embed: Embedding::new(&config.token_embedding(), &mut under_at(source, "embed", config.layers + 1)),
            layers: Block::stack(&config.block, config.layers, source),
            norm: Norm::new(config.block.norm, width, &mut under(source, "norm")),
            project: linear_from(source, "project", [embedding, width], false, Role::Projection, config.project),
            config: config.clone(),
        }
    }

    /// Sets in which numbers the products of attention read their operands.
    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.layers.iter_mut().for_each(|layer| layer.set_precision(precision));
    }

    /// The blocks, for callers that drive them one by one.
    pub fn layers(&self) -> &[Block] {
        &self.layers
    }

    /// What the blocks share for these texts: segments and mode.
    pub fn context(&self, inputs: &TextInputs, mode: Mode) -> Context {
        let shape = [inputs.texts, inputs.time()];
        let segments = inputs.mask.clone().map(|mask| {
            let keys = Tensor::<2, Int>::from_data(TensorData::new(mask, shape), &self.device());
            (keys.ones_like(), keys)
        });
        Context { position: Position::learned(), segments, mode, routing: None }
    }

    /// Embedded tokens `[texts, time, width]`.
    pub fn embed(&self, inputs: &TextInputs, mode: Mode) -> Tensor<3> {
        let time = inputs.time();
        let positions = (0..inputs.texts).flat_map(|_| (0..time).map(|position| position as i32)).collect();
        let ids = inputs.ids.iter().map(|&id| id as i32).collect();
        self.embed.forward(&Inputs::new(inputs.texts, time, ids, positions, None), mode)
    }

    /// Turns the output of the last block, `[texts, time, width]`, into embeddings `[texts, embedding]`, not
    /// normalised.
    pub fn finish(&self, x: Tensor<3>, inputs: &TextInputs, mode: Mode) -> Tensor<2> {
        let [texts, time, width] = x.dims();
        let ends: Vec<i32> = inputs
            .ids
            .chunks(time.max(1))
            .enumerate()
            .map(|(text, ids)| (text * time + self.config.end.place(ids)) as i32)
            .collect();
        let ends = Tensor::<1, Int>::from_data(TensorData::new(ends, [texts]), &x.device());
        // Norms act on each state separately, so only the end token's state is needed.
        let states = x.reshape([texts * time, width]).select(0, ends).reshape([texts, 1, width]);
        let embedded = self.project.forward(self.norm.forward(states), mode);
        let embedding = embedded.dims()[2];
        embedded.reshape([texts, embedding])
    }

    /// Embeddings `[texts, embedding]`, not normalised.
    pub fn forward(&self, inputs: &TextInputs, mode: Mode) -> Tensor<2> {
        let context = self.context(inputs, mode);
        let x = self.layers.iter().fold(self.embed(inputs, mode), |x, layer| layer.forward(x, &context, None));
        self.finish(x, inputs, mode)
    }

    /// Adds the linear maps to `found`; returns the place for an adapter of the token table.
    pub(super) fn sites_mut<'a>(
        &'a mut self,
        path: &str,
        maps: &mut Vec<(String, &'a mut Linear)>,
    ) -> &'a mut Option<Lora> {
        let tokens = self.embed.sites_mut(&join(path, "embed"), maps);
        self.layers.maps_mut(&join(path, "layers"), maps);
        self.project.maps_mut(&join(path, "project"), maps);
        tokens
    }

    pub(super) fn token_adapter(&self) -> Option<&Lora> {
        self.embed.adapter().as_ref()
    }

    pub(super) fn merge_tokens(&mut self) {
        self.embed.merge();
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.embed.device()
    }
}
