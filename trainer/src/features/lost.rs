//! How much of a teacher's distributions the likeliest tokens hold: [`kept_by`].

use firebrand_datasets::Dataset;
use firebrand_models::Network;
use serde::Serialize;

use super::key::TeacherKey;
use super::write::distributions;
use crate::error::Error;

/// The mean probability that the likeliest tokens have together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Kept {
    /// Number of tokens.
    pub top_k: usize,
    /// Their mean probability, 0 to 1.
    pub probability: f64,
    /// Labelled positions that were looked at.
    pub positions: usize,
}

/// Examples that are looked at.
const EXAMPLES: usize = 8;

/// What `key.top_k` tokens, and fewer, hold of the distributions at the labelled positions of the first examples.
///
/// # Errors
/// Rows that changed.
pub fn kept_by(teacher: &Network, dataset: &Dataset, key: &TeacherKey) -> Result<Vec<Kept>, Error> {
    let Some(predictor) = teacher.predictor() else { return Ok(vec![]) };
    let found = distributions(predictor, dataset, &(0..dataset.len().min(EXAMPLES)), key)?;
    let positions: Vec<_> = found.into_iter().flatten().collect();
    let most = key.top_k.min(key.vocabulary);
    let mut counts: Vec<usize> = [most, most / 4, most / 16, 1].into_iter().filter(|count| *count > 0).collect();
    counts.dedup();
    let held = |count: usize| {
        let of = |values: &[f32]| values.iter().take(count).map(|value| f64::from(*value).exp()).sum::<f64>();
        positions.iter().map(|position| of(&position.log_probabilities)).sum::<f64>() / positions.len().max(1) as f64
    };
    Ok(counts.into_iter().map(|top_k| Kept { top_k, probability: held(top_k), positions: positions.len() }).collect())
}
