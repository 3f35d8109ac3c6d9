//! What a family decides about its towers.

use crate::parameters::Initial;
use crate::parts::{BlockConfig, EmbeddingConfig, LearnedPositions, PatchesConfig, TokenEmbeddingConfig};

/// Sizes and variants of two towers.
#[derive(Debug, Clone, PartialEq)]
pub struct TowersConfig {
    /// The tower of texts.
    pub text: TextConfig,
    /// The tower of pictures.
    pub vision: VisionConfig,
    /// Width of the common space.
    pub embedding: usize,
    /// The logarithm of the factor on cosines where it is new.
    pub temperature: f32,
    /// Standard deviation of what has none of its own here: the kernel and the places of patches.
    pub initializer_range: f64,
}

/// A causal transformer over tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Rows of the table of positions: the longest text, in tokens.
    pub max_positions: usize,
    /// Number of blocks.
    pub layers: usize,
    /// The blocks.
    pub block: BlockConfig,
    /// Which state is that of the text.
    pub end: EndOfText,
    /// The tables where they are new.
    pub tables: Initial,
    /// The projection where it is new.
    pub project: Initial,
}

/// Which token of a text has read all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndOfText {
    /// The first of the largest ids: that of the end token in the first files, whose `config.json` names another.
    LargestId,
    /// The first that is this one; the first token of a text without one.
    First(u32),
}

/// A transformer over patches.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Patches and places.
    pub patches: PatchesConfig,
    /// Number of blocks.
    pub layers: usize,
    /// The blocks.
    pub block: BlockConfig,
    /// The projection where it is new.
    pub project: Initial,
}

impl TextConfig {
    /// The token table and the positions.
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

impl EndOfText {
    /// Its place among `ids`.
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
