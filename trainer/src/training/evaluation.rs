//! Evaluates a model on held-out rows: [`evaluate`].

use firebrand_datasets::Dataset;
use firebrand_models::Model;

use crate::error::Error;
use crate::objective::{Evaluated, Objective};

/// Evaluates `objective` over all rows of `dataset`, `batch_size` packs at a time. `progress` is called with the number
/// of packs done and of all packs.
///
/// The model must be for inference ([`Model::for_inference`]).
///
/// # Errors
/// A row that changed on disk since it was prepared, or that the model cannot read.
pub fn evaluate(
    objective: &Objective,
    model: &Model,
    dataset: &Dataset,
    batch_size: usize,
    mut progress: impl FnMut(u64, u64),
) -> Result<Evaluated, Error> {
    let epoch = dataset.epoch(0, 0);
    let count = epoch.packs.len();
    let mut batches = (0..count).step_by(batch_size).map(|start| {
        let end = (start + batch_size).min(count);
        let packs: Vec<_> = (start..end).map(|index| epoch.packs.get(index)).collect();
        progress(start as u64, count as u64);
        Ok(dataset.batch(&packs)?)
    });
    let evaluated = objective.evaluate(model.network(), &mut batches)?;
    drop(batches);
    progress(count as u64, count as u64);
    Ok(evaluated)
}
