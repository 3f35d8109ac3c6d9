//! What a family decides about its blocks.

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
    /// How positions enter.
    pub position: PositionConfig,
    /// Normalisation, the same everywhere.
    pub norm: NormConfig,
    /// How attention and MLP are added to the stream, and where norms stand.
    pub residual: Residual,
    /// Feed-forward part.
    pub mlp: MlpConfig,
    /// Its matrices where they are new.
    pub initials: BlockInitials,
}

/// The matrices of a block that is new.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockInitials {
    /// Those of q, k and v.
    pub qkv: Initial,
    /// That of the output of attention.
    pub output: Initial,
    /// Those that lead into the middle of the MLP.
    pub up: Initial,
    /// That which leads out of it.
    pub down: Initial,
}

impl BlockInitials {
    /// All with the standard deviation of the model.
    pub const NORMAL: Self =
        Self { qkv: Initial::Normal, output: Initial::Normal, up: Initial::Normal, down: Initial::Normal };
}

impl BlockConfig {
    /// Values that a block keeps for the backward pass, for each token: the stream before and after each norm, q, k and v before
    /// and after rotation, the mixed heads, the MLP.
    pub fn activations(&self) -> usize {
        let AttentionConfig { heads, kv_heads, head_dim, .. } = self.attention;
        let mlp = match self.mlp {
            MlpConfig::Gated { intermediate_size, .. } | MlpConfig::GatedFused { intermediate_size, .. } => {
                3 * intermediate_size
            }
            MlpConfig::Plain { intermediate_size, .. } => 2 * intermediate_size,
            MlpConfig::Experts { intermediate_size, chosen, .. } => chosen * (3 * intermediate_size + 2 * self.width),
        };
        6 * self.width + 2 * (heads + 2 * kv_heads) * head_dim + heads * head_dim + mlp
    }
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
    /// How the files lay out the query, key and value projections.
    pub layout: QkvLayout,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the output projection.
    pub output_bias: bool,
    /// Norms on q and k before the positions.
    pub qk_norm: Option<QkNorm>,
    /// q, k and v are cut to `-clip..clip`.
    pub clip: Option<f64>,
    /// Factor on the scores.
    pub scale: Scale,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f64>,
    /// Which tokens are seen.
    pub sight: Sight,
}

/// How the files lay out the query, key and value projections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkvLayout {
    /// Three matrices.
    Split,
    /// One matrix.
    Fused(FusedLayout),
}

/// The rows of a matrix that is q, k and v in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FusedLayout {
    /// All of q, then all of k, then all of v.
    Consecutive,
    /// For each key-value head: its query heads, its k, its v. With as many key-value heads as query heads this is
    /// `[heads, 3, head_dim]`; with one it is all queries, then k, then v.
    Grouped,
}

/// What a norm on q and k runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head by itself, all with the same weight.
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
    /// In layer `layer`, counted from zero.
    pub fn at(self, layer: usize) -> f64 {
        match self {
            Self::Fixed(scale) => scale,
            Self::InverseLayer(scale) => scale / (layer + 1) as f64,
        }
    }
}

/// Which tokens a token sees, of its own segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Itself and those before it, as far as the window reaches.
    Causal(Window),
    /// All of them.
    Full,
}

impl Sight {
    /// In layer `layer`, counted from zero.
    pub fn at(&self, layer: usize) -> firebrand_kernels::Sight {
        match self {
            Self::Causal(window) => firebrand_kernels::Sight::Causal { window: window.at(layer) },
            Self::Full => firebrand_kernels::Sight::Full,
        }
    }
}

/// How far back a token sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    /// All of them.
    Full,
    /// The last so many, itself included.
    Sliding(usize),
    /// By layer: the last so many, or all.
    Pattern(Vec<Option<usize>>),
}

impl Window {
    /// In layer `layer`, counted from zero; absent: all.
    pub fn at(&self, layer: usize) -> Option<usize> {
        match self {
            Self::Full => None,
            Self::Sliding(window) => Some(*window),
            Self::Pattern(layers) => layers.get(layer).copied().flatten(),
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
        /// Base, scaling and rotated share.
        rope: Rope,
    },
    /// Rotary embeddings that differ from layer to layer, on halves of the head.
    RopeByLayer {
        /// Those there are.
        ropes: Vec<Rope>,
        /// By layer: which of them, or no positions at all.
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
    /// Which rotary table layer `layer` uses.
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

/// How attention and MLP are added to the residual stream. All but [`Residual::After`] end with a norm after the last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// Feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MlpConfig {
    /// `down(activation(gate(x)) * up(x))`.
    Gated {
        /// Width of gate and up.
        intermediate_size: usize,
        /// Applied to the gate.
        activation: Activation,
        /// Biases on all three.
        bias: bool,
    },
    /// The same with gate and up in one matrix: all rows of gate, then all of up. No biases.
    GatedFused {
        /// Width of gate and up, each.
        intermediate_size: usize,
        /// Applied to the gate.
        activation: Activation,
    },
    /// `down(activation(up(x)))`.
    Plain {
        /// Width in the middle.
        intermediate_size: usize,
        /// Applied in the middle.
        activation: Activation,
        /// Biases on both.
        bias: bool,
    },
    /// Several gated parts, of which a router chooses some for each token. No biases.
    Experts {
        /// Width of gate and up of each expert.
        intermediate_size: usize,
        /// Applied to the gate.
        activation: Activation,
        /// Number of experts.
        experts: usize,
        /// Experts a token goes through.
        chosen: usize,
    },
}

impl MlpConfig {
    /// Width in the middle, of one expert where there are several.
    pub fn intermediate_size(self) -> usize {
        match self {
            Self::Gated { intermediate_size, .. }
            | Self::GatedFused { intermediate_size, .. }
            | Self::Plain { intermediate_size, .. }
            | Self::Experts { intermediate_size, .. } => intermediate_size,
        }
    }
}
