//! [`Receipt`]: how far a merged model, as written, is from the adapted model, measured on probe rows.
//!
//! Models that predict tokens are compared by the divergence of their next-token distributions, by how often both agree
//! on the most likely token, and by the largest difference of any logit. Classifiers are compared by their scores,
//! relative to their size, because new scores are small. Towers are compared by the distance of their
//! embeddings, networks over images without a head by that of their features, diffusion models by what they tell of noisy
//! pictures. The numbers depend on the dtype written: f32 differs by rounding only, bf16 by its 8-bit significand.
//!
//! 4 bits lose so much more that a fixed limit would either fail good merges of small models or pass broken ones of
//! large models. The cost of quantization is therefore measured on the base alone, without the adapter and without
//! files. The merge may cost twice that on top of the usual limit, up to a limit above which it is a different model.

use std::fmt;

use firebrand_adapters::Mode;
use firebrand_models::diffusion::Diffusion;
use firebrand_models::image::{ImageEncoder, Pixels};
use firebrand_models::parts::Inputs;
use firebrand_models::{Model, Pooled, PooledInputs, Predictor};
use serde::Serialize;

use super::divergence::{best, divergence};
use super::probe::Probe;
use crate::objective::{Embeddings, NoisyRow, told};

/// Factor on the cost of quantizing the base: a quantized merge may cost more, as its weights differ and probes are
/// few.
const OF_QUANTIZATION: f64 = 2.0;
/// Positions whose logits are in memory at once.
const CHUNK: usize = 32;

/// The difference between a merged model and the adapted one, and its limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receipt {
    /// Rows compared.
    pub rows: usize,
    /// Dtype written; absent if each tensor kept its own.
    pub dtype: Option<String>,
    /// The measured differences.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// The cost of quantizing the base alone, if the model is written quantized. In the unit of [`Comparison::cost`].
    #[serde(rename = "packing_kl", skip_serializing_if = "Option::is_none")]
    pub quantization_cost: Option<f64>,
    /// The largest cost allowed.
    pub limit: f64,
}

/// The measured differences of two models on probe rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Comparison {
    /// Of models that predict tokens.
    Distributions(Distributions),
    /// Of classifiers.
    Scores(Scores),
    /// Of towers, and of networks over images without a head.
    Distances(Distances),
    /// Of diffusion models.
    Pictures(Pictures),
}

/// Differences of the scores of whole texts or of images.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Texts or images compared.
    pub texts: usize,
    /// Length of the difference of all scores, relative to that of the adapted model's scores.
    pub difference: f64,
    /// Largest difference of any score.
    pub largest_logit_difference: f64,
}

/// Differences of next-token distributions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Distributions {
    /// Tokens compared.
    pub tokens: usize,
    /// Mean KL(adapter || merged), nats a token.
    pub kl: f64,
    /// Largest KL divergence of a token.
    pub kl_max: f64,
    /// Share of tokens for which both models find the same next token most likely.
    pub top1_agreement: f64,
    /// Largest difference of any logit.
    pub largest_logit_difference: f64,
}

/// Differences of what is told of noisy pictures.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pictures {
    /// Pictures compared.
    pub pictures: usize,
    /// Length of the difference of all values, relative to that of the adapted model's values.
    pub difference: f64,
    /// Largest difference of any value.
    pub largest_difference: f64,
}

/// Distances of normalised embeddings.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Distances {
    /// Embeddings compared.
    pub embeddings: usize,
    /// Mean Euclidean distance between the two models' embeddings, which have length one.
    pub distance: f64,
    /// Largest distance.
    pub distance_max: f64,
    /// Smallest cosine similarity.
    pub cosine_min: f64,
}

impl Receipt {
    /// The receipt of a comparison. `quantization_cost` is the cost of quantizing the base alone.
    pub fn new(comparison: Comparison, rows: usize, dtype: Option<String>, quantization_cost: Option<f64>) -> Self {
        let (usual, largest) = comparison.limits();
        let limit = quantization_cost.map_or(usual, |cost| (usual + OF_QUANTIZATION * cost).min(largest));
        Self { rows, dtype, comparison, quantization_cost, limit }
    }

    /// Whether the cost is within the limit.
    pub fn holds(&self) -> bool {
        self.comparison.cost() <= self.limit
    }
}

impl Comparison {
    /// Compares two models of one kind.
    pub fn of(adapted: &Model, merged: &Model, probe: &Probe) -> Self {
        match probe {
            Probe::Tokens(rows) => {
                if let Some(both) = adapted.network().pooled().zip(merged.network().pooled()) {
                    // At the last token: which one counts in a text has no bearing on whether two models agree.
                    let texts =
                        rows.iter().map(|row| PooledInputs::Texts(Inputs::row(row, 0), vec![row.len() as i32 - 1]));
                    return Self::Scores(Scores::of(both, rows.len(), texts));
                }
                let both = adapted.network().predictor().zip(merged.network().predictor());
                Self::Distributions(both.map(|both| Distributions::of(both, rows)).unwrap_or_default())
            }
            Probe::Images(groups) => {
                if let Some(both) = adapted.network().pooled().zip(merged.network().pooled()) {
                    let images = groups.iter().cloned().map(PooledInputs::Images);
                    return Self::Scores(Scores::of(both, probe.len(), images));
                }
                let both = adapted.network().image().zip(merged.network().image());
                let both = both.map(|(left, right)| Distances::of(&features(left, groups), &features(right, groups)));
                Self::Distances(both.unwrap_or_default())
            }
            Probe::Pairs(pairs) => {
                let both = adapted.network().towers().zip(merged.network().towers());
                let of = |towers| Embeddings::of(towers, pairs, Mode::Inference).normalised().concat();
                Self::Distances(both.map(|(left, right)| Distances::of(&of(left), &of(right))).unwrap_or_default())
            }
            Probe::Pictures(rows) => {
                let both = adapted.network().denoiser().zip(merged.network().denoiser());
                Self::Pictures(both.map(|both| Pictures::of(both, rows)).unwrap_or_default())
            }
        }
    }

    /// The number that is compared with the limit: mean divergence in nats, relative difference of scores, or mean distance
    /// of embeddings.
    pub fn cost(&self) -> f64 {
        match self {
            Self::Distributions(found) => found.kl,
            Self::Scores(found) => found.difference,
            Self::Distances(found) => found.distance,
            Self::Pictures(found) => found.difference,
        }
    }

    /// The cost above which a merge fails, because the model would answer differently; and the cost above which it
    /// fails whatever quantization costs.
    fn limits(&self) -> (f64, f64) {
        match self {
            Self::Distributions(_) => (0.05, 1.0),
            Self::Scores(_) => (0.1, 0.5),
            Self::Distances(_) => (0.05, 0.5),
            Self::Pictures(_) => (0.1, 0.5),
        }
    }
}

impl Distributions {
    fn of((adapted, merged): (Predictor<'_>, Predictor<'_>), rows: &[Vec<u32>]) -> Self {
        let (mut found, mut agreed) = (Self::default(), 0);
        for row in rows {
            for (left, right) in logits(adapted, row).zip(logits(merged, row)) {
                let divergence = divergence(&left, &right);
                found.tokens += 1;
                found.kl += divergence;
                found.kl_max = found.kl_max.max(divergence);
                agreed += usize::from(best(&left) == best(&right));
                let difference = left.iter().zip(&right).map(|(left, right)| f64::from((left - right).abs()));
                found.largest_logit_difference = difference.fold(found.largest_logit_difference, f64::max);
            }
        }
        found.kl /= found.tokens as f64;
        found.top1_agreement = f64::from(agreed as u32) / found.tokens as f64;
        found
    }
}

impl Scores {
    fn of(
        (adapted, merged): (Pooled<'_>, Pooled<'_>),
        rows: usize,
        inputs: impl Iterator<Item = PooledInputs>,
    ) -> Self {
        let mut found = Self { texts: rows, ..Self::default() };
        let (mut apart, mut length) = (0.0, 0.0);
        for inputs in inputs {
            let of = |view: Pooled<'_>| -> Vec<f32> {
                view.scores(&inputs, Mode::Inference).into_data().iter::<f32>().collect()
            };
            for (left, right) in of(adapted).into_iter().zip(of(merged)) {
                let difference = f64::from(left - right).abs();
                found.largest_logit_difference = found.largest_logit_difference.max(difference);
                apart += difference.powi(2);
                length += f64::from(left).powi(2);
            }
        }
        found.difference = if apart == 0.0 { 0.0 } else { (apart / length).sqrt() };
        found
    }
}

impl Pictures {
    fn of((adapted, merged): (&Diffusion, &Diffusion), rows: &[NoisyRow]) -> Self {
        let mut found = Self { pictures: rows.len(), ..Self::default() };
        let (mut apart, mut length) = (0.0, 0.0);
        for row in rows {
            for (left, right) in told(adapted, row).into_iter().zip(told(merged, row)) {
                let difference = f64::from(left - right).abs();
                found.largest_difference = found.largest_difference.max(difference);
                apart += difference.powi(2);
                length += f64::from(left).powi(2);
            }
        }
        found.difference = if apart == 0.0 { 0.0 } else { (apart / length).sqrt() };
        found
    }
}

impl Distances {
    fn of(adapted: &[Vec<f32>], merged: &[Vec<f32>]) -> Self {
        let mut found = Self { cosine_min: 1.0, ..Self::default() };
        for (left, right) in adapted.iter().zip(merged) {
            let pairs = || left.iter().zip(right).map(|(left, right)| (f64::from(*left), f64::from(*right)));
            let distance = pairs().map(|(left, right)| (left - right).powi(2)).sum::<f64>().sqrt();
            let cosine = pairs().map(|(left, right)| left * right).sum::<f64>();
            found.embeddings += 1;
            found.distance += distance;
            found.distance_max = found.distance_max.max(distance);
            found.cosine_min = found.cosine_min.min(cosine);
        }
        found.distance /= found.embeddings as f64;
        found
    }
}

/// The features of images, each of length one, of a network without a head.
fn features(image: &ImageEncoder, groups: &[Pixels]) -> Vec<Vec<f32>> {
    let of = |pixels: &Pixels| {
        let features = image.features(image.forward(pixels.tensor(&image.device()), Mode::Inference));
        let width = features.dims()[1];
        let values: Vec<f32> = features.into_data().iter::<f32>().collect();
        values.chunks(width.max(1)).map(normalised).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of).collect()
}

fn normalised(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32;
    vector.iter().map(|value| value / length).collect()
}

/// The logits at every position of `row`. Only a chunk of positions is in memory at once.
fn logits(predictor: Predictor<'_>, row: &[u32]) -> impl Iterator<Item = Vec<f32>> {
    let hidden = predictor.hidden(&Inputs::row(row, 0), Mode::Inference);
    let head = predictor.head();
    let [_, time, width] = hidden.dims();
    (0..time).step_by(CHUNK).flat_map(move |start| {
        let end = (start + CHUNK).min(time);
        let logits = head.logits(hidden.clone().slice([0..1, start..end, 0..width]));
        let vocabulary = logits.dims()[2];
        let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
        values.chunks(vocabulary).map(<[f32]>::to_vec).collect::<Vec<_>>()
    })
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, dtype) = (self.limit, self.dtype.as_deref().unwrap_or("dtype of the base"));
        let unit = match &self.comparison {
            Comparison::Distributions(found) => {
                write!(
                    f,
                    "KL(adapter || merged) {:.2e} nats (largest {:.2e}; at most {limit:.2e} is allowed), same first choice {:.1} %, \
                     largest logit difference {:.2e}, {} tokens, {dtype}",
                    found.kl,
                    found.kl_max,
                    found.top1_agreement * 100.0,
                    found.largest_logit_difference,
                    found.tokens,
                )?;
                " nats"
            }
            Comparison::Scores(found) => {
                write!(
                    f,
                    "relative difference of scores {:.2e} (at most {limit:.2e} is allowed), largest {:.2e}, {} texts, {dtype}",
                    found.difference, found.largest_logit_difference, found.texts,
                )?;
                ""
            }
            Comparison::Pictures(found) => {
                write!(
                    f,
                    "relative difference of told noise {:.2e} (at most {limit:.2e} is allowed), largest {:.2e}, {} pictures, {dtype}",
                    found.difference, found.largest_difference, found.pictures,
                )?;
                ""
            }
            Comparison::Distances(found) => {
                write!(
                    f,
                    "distance of embeddings {:.2e} (largest {:.2e}; at most {limit:.2e} is allowed), smallest cosine {:.6}, {} \
                     embeddings, {dtype}",
                    found.distance, found.distance_max, found.cosine_min, found.embeddings,
                )?;
                ""
            }
        };
        match self.quantization_cost {
            Some(cost) => write!(f, "; quantizing the base alone costs {cost:.2e}{unit}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_compared_one_by_one() {
        let found = Distances::of(&[vec![1.0, 0.0], vec![0.0, 1.0]], &[vec![1.0, 0.0], vec![0.6, 0.8]]);
        assert_eq!((found.embeddings, found.cosine_min as f32), (2, 0.8));
        assert!(
            (found.distance_max - 0.4_f64.sqrt()).abs() < 1e-6
                && (found.distance * 2.0 - found.distance_max).abs() < 1e-9
        );
    }

    #[test]
    fn a_number_that_is_none_holds_nothing() {
        let comparison = Comparison::Distances(Distances { distance: f64::NAN, ..Distances::default() });
        assert!(!Receipt::new(comparison, 1, None, None).holds());
    }
}
