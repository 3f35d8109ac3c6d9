//! What objectives read of a network, and what of a batch a network reads.

use firebrand_datasets::TokenBatch;
use firebrand_models::parts::Inputs;
use firebrand_models::towers::Towers;
use firebrand_models::{Network, Predictor};

/// The view of an objective over tokens. That the network has it was checked before.
pub(super) fn predictor(network: &Network) -> Predictor<'_> {
    match network.predictor() {
        Some(predictor) => predictor,
        None => panic!("an objective over tokens for a {}", network.kind()),
    }
}

/// The view of an objective over pairs, likewise.
pub(super) fn towers(network: &Network) -> &Towers {
    match network.towers() {
        Some(towers) => towers,
        None => panic!("an objective over pairs for a {}", network.kind()),
    }
}

/// What a network over tokens reads of a batch.
pub fn inputs(batch: &TokenBatch) -> Inputs {
    Inputs::new(
        batch.rows,
        batch.length,
        batch.input_ids.clone(),
        batch.positions.clone(),
        Some(batch.segments.clone()),
    )
}
