//! [`Routing`]: the results of the routers of experts, kept for the load-balancing loss.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;

/// The results of all routers of one forward pass, in the order of the blocks.
#[derive(Debug, Clone, Default)]
pub struct Routing {
    layers: Arc<Mutex<Vec<Routed>>>,
}

/// The result of the router of one block.
#[derive(Debug, Clone)]
pub struct Routed {
    /// Probabilities `[batch * time, experts]`, on the tape of the forward pass.
    pub probabilities: Tensor<2>,
    /// The experts of each token, `[batch * time, chosen]`.
    pub chosen: Vec<usize>,
}

impl Routing {
    /// Adds the result of the router of the next block.
    pub(super) fn push(&self, routed: Routed) {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).push(routed);
    }

    /// Returns what was added since the last call.
    pub fn take(&self) -> Vec<Routed> {
        std::mem::take(&mut self.layers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
