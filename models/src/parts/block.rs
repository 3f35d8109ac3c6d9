//! [`Block`]: one layer of a network, shared by all kinds.

use burn::module::Module;
use burn::tensor::Tensor;

use firebrand_kernels::Precision;

use super::maps::maps;
use super::scaled::ScaledNorms;
use super::{Attention, BlockConfig, Context, LayerCache, Mlp, Norm, Residual};
use crate::parameters::{ParameterSource, under, under_at};

/// Attention and MLP, with the norms around them. In most families:
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
    /// [`Residual::Scaled`].
    Scaled(ScaledNorms),
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
    /// Sets in which numbers the products of attention read their operands.
    pub fn set_precision(&mut self, precision: Precision) {
        self.attention.set_precision(precision);
    }

    /// Reads the parameters of layer `layer`, counted from zero.
    pub fn new(config: &BlockConfig, layer: usize, source: &mut dyn ParameterSource) -> Self {
        Self {
            norms: Norms::new(config, layer, &mut under(source, "norms")),
            attention: Attention::new(config, layer, &mut under(source, "attention")),
            mlp: Mlp::new(config.mlp, config.width, config.initials, &mut under(source, "mlp")),
        }
    }

    /// Reads `count` blocks under the name `layers`.
    pub fn stack(config: &BlockConfig, count: usize, source: &mut dyn ParameterSource) -> Vec<Self> {
        let source = &mut under(source, "layers");
        let below = |layer: usize| count - layer;
        (0..count)
            .map(|layer| Self::new(config, layer, &mut under_at(source, layer.to_string(), below(layer))))
            .collect()
    }

    /// `[batch, time, width]` to the same shape.
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
            Norms::Scaled(norms) => {
                let h = norms.attention.forward(x, context.mode, attention);
                norms.mlp.forward(h, context.mode, mlp)
            }
        }
    }
}

maps!(Block { attention, mlp });

impl Norms {
    fn new(config: &BlockConfig, layer: usize, source: &mut dyn ParameterSource) -> Self {
        let mut norm = |name: &str| Norm::new(config.norm, config.width, &mut under(source, name));
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
            Residual::Scaled { initial, drop_path } => {
                Self::Scaled(ScaledNorms::new(config, layer, (initial, drop_path), source))
            }
        }
    }
}

impl TwoNorms {
    fn new(mut norm: impl FnMut(&str) -> Norm) -> Self {
        Self { attention: norm("attention"), mlp: norm("mlp") }
    }
}
