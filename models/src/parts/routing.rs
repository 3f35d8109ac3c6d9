//! What the routers of experts compute, kept for the load-balancing loss.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;

/// What the routers of one forward pass computed, in the order of the blocks.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    layers: Arc<Mutex<Vec<Routed>>>,
}

/// What the router of one block computed.
#[derive(Debug, Clone)]
pub struct Routed {
    /// Probabilities `[batch * time, experts]`, on the tape of the forward pass.
    pub probabilities: Tensor<2>,
    /// The experts of each token, `[batch * time, chosen]`.
    pub chosen: Vec<usize>,
}

impl Routing {
    /// Adds what the router of the next block computed.
    pub(super) fn push(&self, routed: Routed) {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).push(routed);
    }

    /// What was written since the last call.
    pub fn take(&self) -> Vec<Routed> {
        std::mem::take(&mut self.layers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
