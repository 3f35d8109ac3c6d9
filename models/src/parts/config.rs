//! The configuration of blocks: [`BlockConfig`] holds the sizes and variants that a family decides.

use firebrand_kernels::{Activation, Alibi, RopeStyle};

use crate::hf_config::Rope;
use crate::parameters::Initial;

/// Sizes and variants of the blocks of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockConfig {
    /// Width of the residual stream.
    pub width: usize,
    /// Self-attention.
    pub attention: AttentionConfig,
    /// How positions enter the model.
    pub position: PositionConfig,
    /// Normalisation, the same in the whole network.
    pub norm: NormConfig,
    /// How attention and MLP are added to the stream, and where norms stand.
    pub residual: Residual,
    /// Feed-forward part.
    pub mlp: MlpConfig,
    /// Initial values of new matrices.
    pub initials: BlockInitials,
}

/// The initial values of a block's matrices, if they are new.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockInitials {
    /// The matrices of q, k and v.
    pub qkv: Initial,
    /// The output projection of attention.
    pub output: Initial,
    /// The MLP's matrices up (and gate).
    pub up: Initial,
    /// The MLP's matrix down.
    pub down: Initial,
}

impl BlockInitials {
    /// All with the standard deviation of the model.
    pub const NORMAL: Self =
        Self { qkv: Initial::Normal, output: Initial::Normal, up: Initial::Normal, down: Initial::Normal };
}

/// Grouped-query self-attention.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionConfig {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; `heads * head_dim` need not be `hidden_size`.
    pub head_dim: usize,
    /// How files lay out the query, key and value projections.
    pub layout: QkvLayout,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the output projection.
    pub output_bias: bool,
    /// Norms on q and k before the positions.
    pub qk_norm: Option<QkNorm>,
    /// q, k and v are clipped to `-clip..clip`.
    pub clip: Option<f64>,
    /// Factor on the scores.
    pub scale: Scale,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f64>,
    /// Which tokens a token sees.
    pub sight: Sight,
}

/// How files lay out the query, key and value projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkvLayout {
    /// Three separate matrices.
    Split,
    /// One matrix.
    Fused(FusedLayout),
}

/// The order of rows in a fused matrix of q, k and v.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusedLayout {
    /// All of q, then all of k, then all of v.
    Consecutive,
    /// For each key-value head: its query heads, its k, its v. With as many key-value heads as query heads this is
    /// `[heads, 3, head_dim]`; with one it is all queries, then k, then v.
    Grouped,
}

/// The range of a norm on q and k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head separately, with one weight for all heads.
    EachHead,
    /// The whole projection.
    WholeProjection,
}

/// Factor on attention scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// The same in all layers.
    Fixed(f64),
    /// Divided by the layer's number, counted from one.
    InverseLayer(f64),
}

impl Scale {
    /// The factor in layer `layer`, counted from zero.
    pub fn at(self, layer: usize) -> f64 {
        match self {
            Self::Fixed(scale) => scale,
            Self::InverseLayer(scale) => scale / (layer + 1) as f64,
        }
    }
}

/// Which tokens of its own segment a token sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Itself and the tokens before it, as far as the window reaches.
    Causal(Window),
    /// All tokens of the segment.
    Full,
}

impl Sight {
    /// What tokens see in layer `layer`, counted from zero.
    pub fn at(&self, layer: usize) -> firebrand_kernels::Sight {
        match self {
            Self::Causal(window) => firebrand_kernels::Sight::Causal { window: window.at(layer) },
            Self::Full => firebrand_kernels::Sight::Full,
        }
    }
}

/// How far back a token sees, itself included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    /// Without a limit.
    Full,
    /// This many tokens.
    Sliding(usize),
    /// For each layer, this many tokens, or no limit.
    Pattern(Vec<Option<usize>>),
}

impl Window {
    /// The window in layer `layer`, counted from zero; absent: no limit.
    pub fn at(&self, layer: usize) -> Option<usize> {
        match self {
            Self::Full => None,
            Self::Sliding(window) => Some(*window),
            Self::Pattern(layers) => layers.get(layer).copied().flatten(),
        }
    }

    /// The windows of these layers, in this order; without a pattern where they are all the same.
    pub fn of_layers(&self, layers: &[usize]) -> Self {
        let windows: Vec<Option<usize>> = layers.iter().map(|layer| self.at(*layer)).collect();
        match windows.first().copied() {
            Some(first) if windows.iter().all(|window| *window == first) => first.map_or(Self::Full, Self::Sliding),
            Some(_) | None => Self::Pattern(windows),
        }
    }
}

/// How positions enter the model.
#[derive(Debug, Clone, PartialEq)]
pub enum PositionConfig {
    /// Rotary embedding of q and k.
    Rope {
        /// Which dimensions form a pair.
        style: RopeStyle,
        /// Base, scaling and rotated part of the head.
        rope: Rope,
    },
    /// Rotary embeddings that differ between layers, on halves of the head.
    RopeByLayer {
        /// The different rotary embeddings.
        ropes: Vec<Rope>,
        /// For each layer, an index into `ropes`, or no positions.
        layers: Vec<Option<usize>>,
    },
    /// A trained vector for each position, added where tokens or patches are embedded.
    Learned {
        /// Rows of the table before that of position 0.
        offset: usize,
    },
    /// A bias on the scores that grows with distance (Press et al. 2021, arXiv:2108.12409).
    Alibi(Alibi),
}

impl PositionConfig {
    /// The index of layer `layer`'s rotary table; absent: no rotary positions.
    pub fn rope_at(&self, layer: usize) -> Option<usize> {
        match self {
            Self::Rope { .. } => Some(0),
            Self::RopeByLayer { layers, .. } => layers.get(layer).copied().flatten(),
            Self::Learned { .. } | Self::Alibi(_) => None,
        }
    }
}

/// Normalisation of the residual stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormConfig {
    /// `w * x / rms(x)`.
    Rms {
        /// Added to the mean square.
        eps: f64,
    },
    /// `(1 + w) * x / rms(x)`.
    RmsPlusOne {
        /// Added to the mean square.
        eps: f64,
    },
    /// `w * (x - mean(x)) / deviation(x) + b`.
    Layer {
        /// Added to the variance.
        eps: f64,
        /// Which of `w` and `b` there are.
        affine: Affine,
    },
}

/// The parameters of a LayerNorm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affine {
    /// None: `w` is one, `b` is zero.
    Fixed,
    /// `w` only.
    Weight,
    /// `w` and `b`.
    WeightAndBias,
}

/// How attention and MLP are added to the residual stream. Except with [`Residual::After`], a norm follows the last
/// block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Residual {
    /// `h = x + attention(norm(x))`, then `h + mlp(norm(h))`.
    Sequential,
    /// `x + attention(n) + mlp(n)` with `n = norm(x)`.
    ParallelOneNorm,
    /// `x + attention(norm(x)) + mlp(norm(x))`, each norm its own.
    ParallelTwoNorms,
    /// `h = norm(x + attention(x))`, then `norm(h + mlp(h))`.
    After,
    /// `h = x + norm(attention(x))`, then `h + norm(mlp(h))`.
    AfterBranch,
    /// `h = x + norm(attention(norm(x)))`, then `h + norm(mlp(norm(h)))`.
    Around,
    /// `h = x + s * attention(norm(x))`, then `h + t * mlp(norm(h))` with trained vectors `s` and `t` (LayerScale, Touvron
    /// et al. 2021, arXiv:2103.17239).
    Scaled {
        /// Initial value of `s` and `t`.
        initial: f32,
        /// The share of rows for which a branch is left out in training; the others' are divided by what is kept
        /// (stochastic depth, Huang et al. 2016, arXiv:1603.09382).
        drop_path: f64,
    },
}

impl Residual {
    /// The same without what acts in training only.
    pub(crate) fn in_inference(self) -> Self {
        match self {
            Self::Scaled { .. } => Self::Scaled { initial: 1.0, drop_path: 0.0 },
            Self::Sequential
            | Self::ParallelOneNorm
            | Self::ParallelTwoNorms
            | Self::After
            | Self::AfterBranch
            | Self::Around => self,
        }
    }
}

/// The MLP: the feed-forward part of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MlpConfig {
    /// `down(activation(gate(x)) * up(x))`.
    Gated {
        /// Width of gate and up.
        intermediate_size: usize,
        /// Applied to the gate.
        activation: Activation,
        /// Whether all three matrices have biases.
        bias: bool,
    },
    /// The same with gate and up in one matrix: all rows of gate, then all of up.
    GatedFused {
        /// Width of gate and up, each.
        intermediate_size: usize,
        /// Applied to the gate.
        activation: Activation,
        /// Whether both matrices have biases.
        bias: bool,
    },
    /// `down(activation(up(x)))`.
    Plain {
        /// Width of the hidden layer.
        intermediate_size: usize,
        /// Applied to the hidden layer.
        activation: Activation,
        /// Whether both matrices have biases.
        bias: bool,
    },
    /// Several gated MLPs; a router chooses some of them for each token. No biases.
    Experts {
        /// Width of gate and up of each expert.
        intermediate_size: usize,
        /// Applied to the gate.
        activation: Activation,
        /// Number of experts.
        experts: usize,
        /// Number of experts per token.
        chosen: usize,
    },
}

impl MlpConfig {
    /// Width of the hidden layer; of one expert where there are several.
    pub fn intermediate_size(self) -> usize {
        match self {
            Self::Gated { intermediate_size, .. }
            | Self::GatedFused { intermediate_size, .. }
            | Self::Plain { intermediate_size, .. }
            | Self::Experts { intermediate_size, .. } => intermediate_size,
        }
    }
}
