//! Merging an adapter into its base, with a receipt.
//!
//! A merge is right when the written folder computes what the adapted model computes. So the folder is read back and
//! both models are compared on probe rows: the divergence of their next-token distributions, how often they agree on the
//! most likely token, and the largest difference of any logit. The numbers depend on the dtype written: f32 differs by
//! rounding only, bf16 by what its 8 bits lose.

use std::fmt;
use std::path::Path;

use firebrand_adapters::Mode;
use firebrand_datasets::{ChatTemplate, Dataset, Tokenizer};
use firebrand_models::transformer::Inputs;
use firebrand_models::weights::{Checkpoint, Dtype};
use firebrand_models::{CausalLm, Hold};
use serde::Serialize;

use crate::companions;
use crate::error::Error;
use crate::export::write_folder;

/// Mean divergence in nats above which a merge fails: a distribution that far away answers differently.
const LARGEST_DIVERGENCE: f64 = 0.05;
/// Probe rows and their length, in tokens.
const PROBE_ROWS: usize = 8;
const PROBE_LENGTH: usize = 128;
/// Positions whose logits are held at once.
const CHUNK: usize = 32;

/// Rows on which two models are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    rows: Vec<Vec<u32>>,
}

/// How far the merged model is from the adapted one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receipt {
    /// Rows compared.
    pub rows: usize,
    /// Tokens compared.
    pub tokens: usize,
    /// Dtype written; absent: each tensor's own.
    pub dtype: Option<&'static str>,
    /// Mean KL(adapter || merged), nats a token.
    pub kl: f64,
    /// Largest of them.
    pub kl_max: f64,
    /// Share of tokens with the same most likely continuation.
    pub top1_agreement: f64,
    /// Largest difference of any logit.
    pub largest_logit_difference: f64,
}

impl Probe {
    /// The first rows with at least one token, cut to a bounded length.
    pub fn from_dataset(dataset: &Dataset) -> Self {
        let rows = dataset.examples().filter_map(Result::ok).map(|example| example.input_ids);
        let rows = rows.filter(|row| !row.is_empty()).take(PROBE_ROWS);
        let cut = |mut row: Vec<u32>| {
            row.truncate(PROBE_LENGTH);
            row
        };
        Self { rows: rows.map(cut).collect() }
    }

    /// Rows for when there is no data: sentences, or token ids where there is no tokenizer.
    ///
    /// # Errors
    /// A tokenizer that cannot encode them.
    pub fn built_in(tokenizer: Option<&Tokenizer>, vocabulary: usize) -> Result<Self, Error> {
        const SENTENCES: [&str; 4] = [
            "The lighthouse keeper writes down the weather every morning before breakfast.",
            "What is the capital of France? The capital of France is Paris.",
            "fn main() { println!(\"{}\", (1..=10).sum::<i32>()); }",
            "Once upon a time there was a river that forgot the way to the sea.",
        ];
        let rows = match tokenizer {
            Some(tokenizer) => {
                SENTENCES.iter().map(|text| tokenizer.encode(text, true)).collect::<Result<Vec<_>, _>>()?
            }
            // A stride that is prime to most vocabulary sizes visits ids all over the table.
            None => (0..4)
                .map(|row| (0..64).map(|index| ((row * 64 + index) * 7919 % vocabulary) as u32).collect())
                .collect(),
        };
        Ok(Self { rows })
    }
}

/// Folds the adapters of `adapted` into its weights, writes a model folder to `out`, reads it back and compares.
///
/// # Errors
/// Those of reading and writing; a result that diverges by more than the threshold. Then `out` is as it was.
pub fn merge_into(
    adapted: &CausalLm,
    base: &Path,
    out: &Path,
    dtype: Option<Dtype>,
    probe: &Probe,
    template: Option<&ChatTemplate>,
) -> Result<Receipt, Error> {
    let adapted = adapted.for_inference();
    let mut receipt = None;
    write_folder(out, |folder| {
        let mut merged = adapted.clone();
        merged.merge()?;
        merged.save_weights(folder, dtype, Some(&Checkpoint::open(base)?))?;
        companions::write(base, folder, &merged, dtype, template)?;
        drop(merged);
        let written = CausalLm::load(folder, Hold::F32, &adapted.decoder().device())?;
        let found = compare(&adapted, &written, probe, dtype.map(Dtype::name));
        if found.kl.is_nan() || found.kl > LARGEST_DIVERGENCE {
            return Err(Error::Merge { problem: format!("{found}; at most {LARGEST_DIVERGENCE} nats is allowed") });
        }
        receipt = Some(found);
        Ok(())
    })?;
    receipt.ok_or_else(|| Error::Merge { problem: "nothing was compared".into() })
}

fn compare(adapted: &CausalLm, merged: &CausalLm, probe: &Probe, dtype: Option<&'static str>) -> Receipt {
    let mut receipt = Receipt {
        rows: probe.rows.len(),
        tokens: 0,
        dtype,
        kl: 0.0,
        kl_max: 0.0,
        top1_agreement: 0.0,
        largest_logit_difference: 0.0,
    };
    let mut agreed = 0;
    for row in &probe.rows {
        for (left, right) in logits(adapted, row).zip(logits(merged, row)) {
            let divergence = divergence(&left, &right);
            receipt.tokens += 1;
            receipt.kl += divergence;
            receipt.kl_max = receipt.kl_max.max(divergence);
            agreed += usize::from(best(&left) == best(&right));
            let difference = left.iter().zip(&right).map(|(left, right)| f64::from((left - right).abs()));
            receipt.largest_logit_difference = difference.fold(receipt.largest_logit_difference, f64::max);
        }
    }
    receipt.kl /= receipt.tokens as f64;
    receipt.top1_agreement = f64::from(agreed as u32) / receipt.tokens as f64;
    receipt
}

/// The logits at every position of `row`, a chunk of positions in memory at a time.
fn logits(model: &CausalLm, row: &[u32]) -> impl Iterator<Item = Vec<f32>> {
    let hidden = model.decoder().forward(&Inputs::row(row, 0), Mode::Inference);
    let head = model.decoder().head();
    let [_, time, width] = hidden.dims();
    (0..time).step_by(CHUNK).flat_map(move |start| {
        let end = (start + CHUNK).min(time);
        let logits = head.logits(hidden.clone().slice([0..1, start..end, 0..width]));
        let vocabulary = logits.dims()[2];
        let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
        values.chunks(vocabulary).map(<[f32]>::to_vec).collect::<Vec<_>>()
    })
}

/// KL(left || right) of the distributions with these logits, in nats.
fn divergence(left: &[f32], right: &[f32]) -> f64 {
    let (left_norm, right_norm) = (log_sum_exp(left), log_sum_exp(right));
    left.iter()
        .zip(right)
        .map(|(&left, &right)| {
            let (left, right) = (f64::from(left) - left_norm, f64::from(right) - right_norm);
            left.exp() * (left - right)
        })
        .sum()
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    highest + logits.iter().map(|&logit| (f64::from(logit) - highest).exp()).sum::<f64>().ln()
}

fn best(logits: &[f32]) -> Option<usize> {
    logits.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1)).map(|(index, _)| index)
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "KL(adapter || merged) {:.2e} nats (largest {:.2e}), same first choice {:.1} %, largest logit difference {:.2e}, {} tokens, {}",
            self.kl,
            self.kl_max,
            self.top1_agreement * 100.0,
            self.largest_logit_difference,
            self.tokens,
            self.dtype.unwrap_or("dtype of the base")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_distributions_do_not_diverge_and_a_shift_of_all_logits_is_no_difference() {
        let logits = [0.5_f32, -1.0, 2.0];
        let shifted = logits.map(|logit| logit + 3.0);
        assert!(divergence(&logits, &logits) < 1e-12);
        assert!(divergence(&logits, &shifted) < 1e-6);
    }

    #[test]
    fn divergence_is_the_textbook_sum() {
        let left = [0.75_f32.ln(), 0.25_f32.ln()];
        let right = [0.5_f32.ln(), 0.5_f32.ln()];
        let expected = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
        assert!((divergence(&left, &right) - expected).abs() < 1e-6);
    }

    #[test]
    fn nan_logits_diverge() {
        assert!(divergence(&[f32::NAN, 0.0], &[0.0, 0.0]).is_nan());
    }
}
