//! One layer of the decoder.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::Linear;

use super::{Attention, Context, DecoderConfig, LayerCache, Mlp, Norm};
use crate::parameters::ParameterSource;

/// How attention and MLP are added to the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// `h = x + attention(norm(x))`, then `h + mlp(norm(h))`.
    Sequential,
}

/// ```text
/// x ──┬─ input_norm ─ attention ─ + ──┬─ post_norm ─ mlp ─ + ── y
///     └───────────────────────────┘   └────────────────────┘
/// ```
#[derive(Module, Debug)]
pub struct Block {
    input_norm: Norm,
    attention: Attention,
    post_norm: Norm,
    mlp: Mlp,
    #[module(skip)]
    residual: Residual,
}

impl Block {
    /// Reads the parameters under `path`.
    pub fn new(config: &DecoderConfig, path: &str, source: &mut dyn ParameterSource) -> Self {
        let width = config.hidden_size;
        Self {
            input_norm: Norm::new(config.norm, width, &format!("{path}.input_norm"), source),
            attention: Attention::new(&config.attention, width, &format!("{path}.attention"), source),
            post_norm: Norm::new(config.norm, width, &format!("{path}.post_norm"), source),
            mlp: Mlp::new(config.mlp, width, &format!("{path}.mlp"), source),
            residual: config.residual,
        }
    }

    /// `[batch, time, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<3>, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<3> {
        match self.residual {
            Residual::Sequential => {
                let h = x.clone() + self.attention.forward(self.input_norm.forward(x), context, cache);
                h.clone() + self.mlp.forward(self.post_norm.forward(h), context.mode)
            }
        }
    }

    /// The linear maps with their names below the block.
    pub(super) fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let attention = self.attention.linears_mut().into_iter().map(|(name, map)| (format!("attention.{name}"), map));
        let mlp = self.mlp.linears_mut().into_iter().map(|(name, map)| (format!("mlp.{name}"), map));
        attention.chain(mlp).collect()
    }
}
