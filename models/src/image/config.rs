//! The configuration of a network over images: [`ImageConfig`] holds the sizes and variants that a family decides.

use crate::parts::{BlockConfig, PatchesConfig};

/// Sizes and variants of a transformer over patches, with or without a head.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// Sizes of the image embedding.
    pub patches: PatchesConfig,
    /// Number of blocks.
    pub layers: usize,
    /// The blocks.
    pub block: BlockConfig,
    /// Number of scores that the head gives; absent: there is no head.
    pub classes: Option<usize>,
    /// Standard deviation of new parameters.
    pub initializer_range: f64,
}

impl ImageConfig {
    /// Width of an image's features: those of the class embedding, and the mean of those of its patches.
    pub fn features(&self) -> usize {
        2 * self.block.width
    }
}
