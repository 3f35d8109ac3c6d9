//! The configuration of a decoder: [`DecoderConfig`] holds the sizes and variants that a family decides.

use crate::hf_config::RopeScaling;
use crate::parameters::Initial;
use crate::parts::{BlockConfig, EmbeddingConfig, LearnedPositions, PositionConfig, Sight, TokenEmbeddingConfig};

/// Sizes and variants of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Rows of the token table: the size of the vocabulary.
    pub vocab_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Sizes and variants of each block.
    pub block: BlockConfig,
    /// A token whose embedding is looked up, but gets no gradient from that (`nn.Embedding(padding_idx)`). In some
    /// families the reference does this for `pad_token_id` wherever the token stands, even where it ends a turn of real
    /// text.
    pub padding_token: Option<usize>,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// What happens to embedded tokens before the first block.
    pub embedding: EmbeddingConfig,
    /// The output head of a decoder that predicts tokens.
    pub head: HeadConfig,
    /// Number of classes, where a score for each of them stands in place of the output head. Absent: the decoder predicts
    /// tokens.
    pub classes: Option<usize>,
    /// The id with which texts are padded (`pad_token_id`), which a classifier does not read. Absent: there is none.
    pub padding: Option<usize>,
    /// Standard deviation of new matrices (`initializer_range`).
    pub initializer_range: f64,
}

/// Variants of the output head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadConfig {
    /// Its matrix is the token table.
    pub tied: bool,
    /// It has a bias of its own.
    pub bias: bool,
    /// Logits become `softcap * tanh(logit / softcap)`.
    pub softcap: Option<f64>,
}

impl DecoderConfig {
    /// The configuration of the token embedding.
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

    /// The configuration of a decoder with these of the blocks, in this order.
    pub fn with_blocks(&self, kept: &[usize]) -> Self {
        let mut chosen = Self { layers: kept.len(), ..self.clone() };
        if let Sight::Causal(window) = &mut chosen.block.attention.sight {
            *window = window.of_layers(kept);
        }
        if let PositionConfig::RopeByLayer { layers, .. } = &mut chosen.block.position {
            *layers = kept.iter().map(|layer| self.block.position.rope_at(*layer)).collect();
        }
        chosen
    }

    /// Width of the token table and of the head.
    pub fn embedding_width(&self) -> usize {
        match self.embedding {
            EmbeddingConfig::Projected { width } => width,
            EmbeddingConfig::Plain | EmbeddingConfig::Scaled(_) | EmbeddingConfig::Normalised => self.block.width,
        }
    }

    /// The sequence length after which the positions of all tokens change, so that cached keys and values become
    /// useless: longrope has one set of frequencies up to it and another beyond.
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

    /// The longest sequence the model was trained on, in tokens, where rotary positions beyond it can be computed but
    /// nothing scales them to be of use.
    pub fn unscaled_positions(&self) -> Option<usize> {
        let ropes = match &self.block.position {
            PositionConfig::Rope { rope, .. } => std::slice::from_ref(rope),
            PositionConfig::RopeByLayer { ropes, .. } => ropes.as_slice(),
            PositionConfig::Learned { .. } | PositionConfig::Alibi(_) => return None,
        };
        ropes.iter().all(|rope| rope.scaling == RopeScaling::Default).then_some(self.max_positions)
    }

    /// The longest sequence that can be computed, in tokens, where a table of positions sets a limit.
    pub fn position_limit(&self) -> Option<usize> {
        match self.block.position {
            PositionConfig::Learned { .. } => Some(self.max_positions),
            PositionConfig::Rope { .. } | PositionConfig::RopeByLayer { .. } | PositionConfig::Alibi(_) => None,
        }
    }
}
