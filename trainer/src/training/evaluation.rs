//! Evaluates a model on held-out rows: [`evaluate`].

use firebrand_datasets::{Dataset, Location};
use firebrand_models::Model;

use crate::error::Error;
use crate::objective::{EvalMetrics, Evaluated, Objective};

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

/// The rows to name when an evaluation is not finite: those of the first `batch_size` packs whose loss is not; the first
/// rows where only the sum over all is not.
pub(super) fn rows_without_a_loss(
    objective: &Objective,
    model: &Model,
    dataset: &Dataset,
    batch_size: usize,
) -> Vec<Location> {
    let epoch = dataset.epoch(0, 0);
    let count = epoch.packs.len();
    for start in (0..count).step_by(batch_size) {
        let packs: Vec<_> = (start..(start + batch_size).min(count)).map(|index| epoch.packs.get(index)).collect();
        let evaluated = dataset
            .batch(&packs)
            .map_err(Error::from)
            .and_then(|batch| objective.evaluate(model.network(), &mut std::iter::once(Ok(batch))));
        // Packs without a labelled token have no loss, which is no fault.
        let is_faulty = evaluated.is_ok_and(|evaluated| {
            !evaluated.loss.is_finite() && !matches!(evaluated.metrics, EvalMetrics::Tokens { tokens: 0, .. })
        });
        if is_faulty {
            return packs.iter().flat_map(|pack| &pack.examples).map(|&row| dataset.location(row)).collect();
        }
    }
    (0..dataset.len().min(5)).map(|row| dataset.location(row)).collect()
}
