//! Loss and accuracy over a data set.

use firebrand_datasets::Dataset;
use firebrand_models::CausalLm;

use crate::objective::{Sft, TokenSums};

/// Token-weighted sums over all rows of `dataset`, `batch_size` packs at a time. `progress` is told (done, total) packs.
///
/// The model must be for inference ([`CausalLm::for_inference`]).
pub fn evaluate(
    model: &CausalLm,
    dataset: &Dataset,
    batch_size: usize,
    mut progress: impl FnMut(u64, u64),
) -> TokenSums {
    let packs = dataset.epoch(0, 0).packs;
    let mut sums = TokenSums::default();
    for (index, packs_of_batch) in packs.chunks(batch_size).enumerate() {
        sums += Sft::evaluate(model.decoder(), &dataset.batch(packs_of_batch));
        progress((index * batch_size + packs_of_batch.len()) as u64, packs.len() as u64);
    }
    sums
}

impl TokenSums {
    /// Mean loss in nats.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.weight
    }

    /// Share of tokens whose most likely continuation was right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.tokens as f64
    }
}
