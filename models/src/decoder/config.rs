//! What a family decides about its decoder.

use crate::hf_config::RopeScaling;
use crate::parameters::Initial;
use crate::parts::{BlockConfig, EmbeddingConfig, LearnedPositions, PositionConfig, TokenEmbeddingConfig};

/// Sizes and variants of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// The blocks.
    pub block: BlockConfig,
    /// A token whose embedding is looked up but not trained by that (`nn.Embedding(padding_idx)`). The reference does this
    /// in some families for `pad_token_id` wherever the token stands, also where it is the end-of-turn token of real text.
    pub padding_token: Option<usize>,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// What happens to embedded tokens before the first block.
    pub embedding: EmbeddingConfig,
    /// The output head.
    pub head: HeadConfig,
    /// Standard deviation of freshly made matrices.
    pub initializer_range: f64,
}

/// The output head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadConfig {
    /// It is the embedding.
    pub tied: bool,
    /// It has a bias of its own.
    pub bias: bool,
    /// Logits become `softcap * tanh(logit / softcap)`.
    pub softcap: Option<f64>,
}

impl DecoderConfig {
    /// The token table and what stands around it.
    pub fn token_embedding(&self) -> TokenEmbeddingConfig {
        let positions = match self.block.position {
            PositionConfig::Learned { offset } => Some(LearnedPositions { rows: self.max_positions + offset, offset }),
            PositionConfig::Rope { .. } | PositionConfig::RopeByLayer { .. } | PositionConfig::Alibi(_) => None,
        };
        TokenEmbeddingConfig {
            rows: self.vocab_size,
            width: self.block.width,
            embedding: self.embedding,
            positions,
            norm: self.block.norm,
            padding_token: self.padding_token,
            initial: Initial::Normal,
        }
    }

    /// Width of the token table and of the head.
    pub fn embedding_width(&self) -> usize {
        match self.embedding {
            EmbeddingConfig::Projected { width } => width,
            EmbeddingConfig::Plain | EmbeddingConfig::Scaled(_) | EmbeddingConfig::Normalised => self.block.width,
        }
    }

    /// The length after which the positions of all tokens are others, so that what a cache holds is worth nothing: longrope
    /// has one set of frequencies up to it and another beyond.
    pub fn positions_change_after(&self) -> Option<usize> {
        let ropes = match &self.block.position {
            PositionConfig::Rope { rope, .. } => std::slice::from_ref(rope),
            PositionConfig::RopeByLayer { ropes, .. } => ropes.as_slice(),
            PositionConfig::Learned { .. } | PositionConfig::Alibi(_) => &[],
        };
        ropes.iter().find_map(|rope| match rope.scaling {
            RopeScaling::Long { original_max_position_embeddings, .. } => Some(original_max_position_embeddings),
            _ => None,
        })
    }

    /// The longest sequence that can be computed at all, where there is a limit: a table of positions ends.
    pub fn position_limit(&self) -> Option<usize> {
        match self.block.position {
            PositionConfig::Learned { .. } => Some(self.max_positions),
            PositionConfig::Rope { .. } | PositionConfig::RopeByLayer { .. } | PositionConfig::Alibi(_) => None,
        }
    }
}
