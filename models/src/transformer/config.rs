//! What a family decides about its decoder.

use firebrand_kernels::{Activation, RopeStyle};

use super::Residual;
use crate::hf_config::Rope;

/// Sizes and variants of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// A token whose embedding is looked up but not trained by that (`nn.Embedding(padding_idx)`). The reference does this
    /// for `pad_token_id` wherever the token stands, also where it is the end-of-turn token of real text.
    pub padding_token: Option<usize>,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Self-attention.
    pub attention: AttentionConfig,
    /// How positions enter.
    pub position: PositionConfig,
    /// Normalisation, the same everywhere.
    pub norm: NormConfig,
    /// How attention and MLP are added to the stream.
    pub residual: Residual,
    /// Feed-forward part.
    pub mlp: MlpConfig,
    /// The output head is the embedding.
    pub tied_head: bool,
    /// Standard deviation of freshly made matrices.
    pub initializer_range: f64,
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
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// Bias on the output projection.
    pub output_bias: bool,
    /// Factor on the scores.
    pub scale: f64,
    /// Which earlier tokens are seen.
    pub window: Window,
}

/// Which earlier tokens a token sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// All of them.
    Full,
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
}

/// Normalisation of the residual stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormConfig {
    /// `w * x / rms(x)`.
    Rms {
        /// Added to the mean square.
        eps: f64,
    },
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
}
