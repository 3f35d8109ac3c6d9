//! Loss and accuracy over a data set.

use firebrand_datasets::{DataError, Dataset};
use firebrand_models::CausalLm;

use crate::objective::{Sft, TokenSums};

/// Token-weighted sums over all rows of `dataset`, `batch_size` packs at a time. `progress` is told (done, total) packs.
///
/// The model must be for inference ([`CausalLm::for_inference`]).
///
/// # Errors
/// A row that is not on disk as it was prepared.
pub fn evaluate(
    model: &CausalLm,
    dataset: &Dataset,
    batch_size: usize,
    mut progress: impl FnMut(u64, u64),
) -> Result<TokenSums, DataError> {
    let epoch = dataset.epoch(0, 0);
    let count = epoch.packs.len();
    let mut sums = TokenSums::default();
    for start in (0..count).step_by(batch_size) {
        let end = (start + batch_size).min(count);
        let packs: Vec<_> = (start..end).map(|index| epoch.packs.get(index)).collect();
        sums += Sft::evaluate(model.decoder(), &dataset.batch(&packs)?.into_tokens()?);
        progress(end as u64, count as u64);
    }
    Ok(sums)
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
