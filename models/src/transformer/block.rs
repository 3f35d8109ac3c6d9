//! One layer of the decoder.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::Linear;

use super::{Attention, Context, DecoderConfig, LayerCache, Mlp, Norm, Residual};
use crate::parameters::ParameterSource;

/// Attention, MLP, and the norms around them. In most families:
/// ```text
/// x ──┬─ norm ─ attention ─ + ──┬─ norm ─ mlp ─ + ── y
///     └─────────────────────┘   └───────────────┘
/// ```
#[derive(Module, Debug)]
pub struct Block {
    norms: Norms,
    attention: Attention,
    mlp: Mlp,
}

/// The norms of a block and how its branches are added: [`Residual`] with parameters.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "one a layer, and handles to tensors: hundreds of bytes are nothing")]
pub enum Norms {
    /// [`Residual::Sequential`].
    Sequential(TwoNorms),
    /// [`Residual::ParallelOneNorm`].
    ParallelOneNorm(OneNorm),
    /// [`Residual::ParallelTwoNorms`].
    ParallelTwoNorms(TwoNorms),
    /// [`Residual::After`].
    After(TwoNorms),
    /// [`Residual::AfterBranch`].
    AfterBranch(TwoNorms),
    /// [`Residual::Around`].
    Around(FourNorms),
}

/// One norm for both branches.
#[derive(Module, Debug)]
pub struct OneNorm {
    both: Norm,
}

/// A norm for each branch.
#[derive(Module, Debug)]
pub struct TwoNorms {
    attention: Norm,
    mlp: Norm,
}

/// A norm before and after each branch.
#[derive(Module, Debug)]
pub struct FourNorms {
    attention: Norm,
    attention_after: Norm,
    mlp: Norm,
    mlp_after: Norm,
}

impl Block {
    /// Reads the parameters of layer `layer` under `path`.
    pub fn new(config: &DecoderConfig, layer: usize, path: &str, source: &mut dyn ParameterSource) -> Self {
        Self {
            norms: Norms::new(config, &format!("{path}.norms"), source),
            attention: Attention::new(config, layer, &format!("{path}.attention"), source),
            mlp: Mlp::new(config.mlp, config.hidden_size, &format!("{path}.mlp"), source),
        }
    }

    /// `[batch, time, hidden_size]` to the same.
    pub fn forward(&self, x: Tensor<3>, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let attention = |x| self.attention.forward(x, context, cache);
        let mlp = |x| self.mlp.forward(x, context);
        match &self.norms {
            Norms::Sequential(norm) => {
                let h = x.clone() + attention(norm.attention.forward(x));
                h.clone() + mlp(norm.mlp.forward(h))
            }
            Norms::ParallelOneNorm(norm) => {
                let n = norm.both.forward(x.clone());
                x + attention(n.clone()) + mlp(n)
            }
            Norms::ParallelTwoNorms(norm) => {
                x.clone() + attention(norm.attention.forward(x.clone())) + mlp(norm.mlp.forward(x))
            }
            Norms::After(norm) => {
                let h = norm.attention.forward(x.clone() + attention(x));
                norm.mlp.forward(h.clone() + mlp(h))
            }
            Norms::AfterBranch(norm) => {
                let h = x.clone() + norm.attention.forward(attention(x));
                h.clone() + norm.mlp.forward(mlp(h))
            }
            Norms::Around(norm) => {
                let h = x.clone() + norm.attention_after.forward(attention(norm.attention.forward(x)));
                h.clone() + norm.mlp_after.forward(mlp(norm.mlp.forward(h)))
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

impl Norms {
    fn new(config: &DecoderConfig, path: &str, source: &mut dyn ParameterSource) -> Self {
        let mut norm = |name: &str| Norm::new(config.norm, config.hidden_size, &format!("{path}.{name}"), source);
        match config.residual {
            Residual::ParallelOneNorm => Self::ParallelOneNorm(OneNorm { both: norm("both") }),
            Residual::Sequential => Self::Sequential(TwoNorms::new(norm)),
            Residual::ParallelTwoNorms => Self::ParallelTwoNorms(TwoNorms::new(norm)),
            Residual::After => Self::After(TwoNorms::new(norm)),
            Residual::AfterBranch => Self::AfterBranch(TwoNorms::new(norm)),
            Residual::Around => Self::Around(FourNorms {
                attention: norm("attention"),
                attention_after: norm("attention_after"),
                mlp: norm("mlp"),
                mlp_after: norm("mlp_after"),
            }),
        }
    }
}

impl TwoNorms {
    fn new(mut norm: impl FnMut(&str) -> Norm) -> Self {
        Self { attention: norm("attention"), mlp: norm("mlp") }
    }
}
