//! [`TextEncoder`]: the states of a text that a UNet is told (Radford et al. 2021, arXiv:2103.00020). It is always frozen here.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::{Linear, Mode};

use crate::parameters::{ParameterSource, Role, linear_from, under};
use crate::parts::{Block, Context, Embedding, Inputs, Norm, Position};
use crate::towers::TextConfig;

/// A causal transformer over tokens.
#[derive(Module, Debug)]
pub struct TextEncoder {
    embed: Embedding,
    layers: Vec<Block>,
    norm: Norm,
    project: Option<Linear>,
    #[module(skip)]
    config: TextConfig,
}

/// What a text is to a UNet.
#[derive(Debug, Clone)]
pub struct EncodedText {
    /// The states behind the last norm, `[texts, tokens, width]`.
    pub last: Tensor<3>,
    /// The states before the last block, without a norm, of the same shape.
    pub before_last: Tensor<3>,
    /// The projected state at the end of each text, `[texts, embedding]`, where there is a projection.
    pub pooled: Option<Tensor<2>>,
}

impl TextEncoder {
    /// Reads every parameter from `source`; `embedding` is the width of the projection, where there is one.
    pub fn new(config: &TextConfig, embedding: Option<usize>, source: &mut dyn ParameterSource) -> Self {
        let width = config.block.width;
        Self {
            embed: Embedding::new(&config.token_embedding(), &mut under(source, "embed")),
            layers: Block::stack(&config.block, config.layers, source),
            norm: Norm::new(config.block.norm, width, &mut under(source, "norm")),
            project: embedding.map(|embedding| {
                linear_from(source, "project", [embedding, width], false, Role::Projection, config.project)
            }),
            config: config.clone(),
        }
    }

    /// Sizes and variants.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Encodes texts of equal length: token ids `[texts, tokens]`, row-major.
    pub fn forward(&self, ids: &[u32], texts: usize) -> EncodedText {
        let tokens = ids.len() / texts.max(1);
        let positions = (0..texts).flat_map(|_| (0..tokens).map(|position| position as i32)).collect();
        let inputs = Inputs::new(texts, tokens, ids.iter().map(|id| *id as i32).collect(), positions, None);
        let context = Context { position: Position::learned(), segments: None, mode: Mode::Inference, routing: None };
        let mut x = self.embed.forward(&inputs, Mode::Inference);
        let mut before_last = x.clone();
        for layer in &self.layers {
            before_last = x.clone();
            x = layer.forward(x, &context, None);
        }
        let last = self.norm.forward(x);
        let pooled = self.project.as_ref().map(|project| {
            let [texts, tokens, width] = last.dims();
            let place = |(text, ids): (usize, &[u32])| (text * tokens + self.config.end.place(ids)) as i32;
            let ends: Vec<i32> = ids.chunks(tokens.max(1)).enumerate().map(place).collect();
            let ends = Tensor::<1, Int>::from_data(TensorData::new(ends, [texts]), &last.device());
            let states = last.clone().reshape([texts * tokens, width]).select(0, ends).reshape([texts, 1, width]);
            let embedded = project.forward(states, Mode::Inference);
            let embedding = embedded.dims()[2];
            embedded.reshape([texts, embedding])
        });
        EncodedText { last, before_last, pooled }
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.embed.device()
    }
}
