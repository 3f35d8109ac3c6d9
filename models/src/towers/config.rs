//! The configuration of towers: [`TowersConfig`] holds the sizes and variants that a family decides.

use crate::parameters::Initial;
use crate::parts::{BlockConfig, EmbeddingConfig, LearnedPositions, PatchesConfig, TokenEmbeddingConfig};

/// Sizes and variants of a text tower and an image tower.
#[derive(Debug, Clone, PartialEq)]
pub struct TowersConfig {
    /// The text tower.
    pub text: TextConfig,
    /// The image tower.
    pub vision: VisionConfig,
    /// Width of the common embedding space.
    pub embedding: usize,
    /// Initial logarithm of the factor on cosines.
    pub temperature: f32,
    /// Standard deviation of new parameters without one of their own: the patch kernel and the positions of patches.
    pub initializer_range: f64,
}

/// A causal transformer over tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Rows of the table of positions: the longest text in tokens.
    pub max_positions: usize,
    /// Number of blocks.
    pub layers: usize,
    /// The blocks.
    pub block: BlockConfig,
    /// Which token's state represents the text.
    pub end: EndOfText,
    /// Initial values of the tables, if they are new.
    pub tables: Initial,
    /// Initial values of the projection, if it is new.
    pub project: Initial,
}

/// The token at the end of a text, whose state has seen all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfText {
    /// The first occurrence of the largest id. In the first files that is the end token, although `config.json` names
    /// another id.
    LargestId,
    /// The first occurrence of this id; the first token of a text that lacks it.
    First(u32),
}

/// A transformer over patches.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Sizes of the image embedding.
    pub patches: PatchesConfig,
    /// Number of blocks.
    pub layers: usize,
    /// The blocks.
    pub block: BlockConfig,
    /// Initial values of the projection, if it is new.
    pub project: Initial,
}

impl TextConfig {
    /// The configuration of the token embedding.
    pub fn token_embedding(&self) -> TokenEmbeddingConfig {
        TokenEmbeddingConfig {
            rows: self.vocab_size,
            width: self.block.width,
            embedding: EmbeddingConfig::Plain,
            positions: Some(LearnedPositions { rows: self.max_positions, offset: 0 }),
            norm: self.block.norm,
            padding_token: None,
            initial: self.tables,
        }
    }
}

impl TextConfig {
    /// An id that can follow a text without being its end: blocks are causal, so the text's embedding is the same.
    pub fn padding(&self) -> u32 {
        match self.end {
            EndOfText::First(0) if self.vocab_size > 1 => 1,
            EndOfText::First(_) | EndOfText::LargestId => 0,
        }
    }
}

impl EndOfText {
    /// The index of the token among `ids`.
    pub fn place(self, ids: &[u32]) -> usize {
        let first = |wanted: Option<&u32>| ids.iter().position(|id| Some(id) == wanted).unwrap_or(0);
        match self {
            Self::LargestId => first(ids.iter().max()),
            Self::First(end) => first(Some(&end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_ends_counts() {
        assert_eq!(EndOfText::LargestId.place(&[3, 9, 1, 9]), 1);
        assert_eq!(EndOfText::First(1).place(&[3, 9, 1, 1]), 2);
        assert_eq!(EndOfText::First(7).place(&[3, 9, 1, 1]), 0);
    }
}
