//! [`Cache`]: keys and values of the tokens processed so far, for generation.

use burn::tensor::Tensor;

/// The cache of one batch of sequences.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    layers: Vec<LayerCache>,
}

/// Keys and values of one block, `[batch, seen, kv_heads, head_dim]`, after the rotation.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    seen: Option<(Tensor<4>, Tensor<4>)>,
}

impl Cache {
    /// An empty cache for a model of `layers` blocks.
    pub fn new(layers: usize) -> Self {
        Self { layers: vec![LayerCache::default(); layers] }
    }

    /// The cache of one block.
    pub fn layer(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }

    /// Number of tokens processed so far.
    pub fn len(&self) -> usize {
        self.layers.first().and_then(|layer| layer.seen.as_ref()).map_or(0, |(k, _)| k.dims()[1])
    }

    /// Whether no token was processed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl LayerCache {
    /// Appends the keys and values of new tokens and returns all of them.
    pub fn extend(&mut self, k: Tensor<4>, v: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let all = match self.seen.take() {
            None => (k, v),
            Some((old_k, old_v)) => (Tensor::cat(vec![old_k, k], 1), Tensor::cat(vec![old_v, v], 1)),
        };
        self.seen = Some(all.clone());
        all
    }
}
