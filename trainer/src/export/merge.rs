//! Merging an adapter into its base, with a receipt.
//!
//! A merge is right when the written folder computes what the adapted model computes. So the folder is read back and
//! both models are compared on probe rows: the divergence of their next-token distributions, how often they agree on the
//! most likely token, and the largest difference of any logit. The numbers depend on the dtype written: f32 differs by
//! rounding only, bf16 by what its 8 bits lose.
//!
//! 4 bits lose so much more that a fixed limit would either fail good merges of small models or pass broken ones of large
//! ones. What quantization costs is therefore measured on the base alone, without the adapter and without files, and the merge
//! may cost twice that on top of what every merge may, and never more than one nat.

use std::fmt;
use std::path::Path;

use firebrand_adapters::Mode;
use firebrand_datasets::{ChatTemplate, Dataset, Example, Tokenizer};
use firebrand_kernels::QuantizationScheme;
use firebrand_models::transformer::Inputs;
use firebrand_models::weights::Checkpoint;
use firebrand_models::{CausalLm, Hold, WriteAs};
use serde::Serialize;

use super::companions;
use super::folder::write_folder;
use crate::error::Error;

/// Mean divergence in nats above which a merge fails: a distribution that far away answers differently.
const LARGEST_DIVERGENCE: f64 = 0.05;
/// A distribution this far away is another model, whatever quantization costs.
const LARGEST_QUANTIZED_DIVERGENCE: f64 = 1.0;
/// How often a quantized merge may lose what quantizing the base loses: the weights are others, and probes few.
const OF_QUANTIZATION: f64 = 2.0;
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
    pub dtype: Option<String>,
    /// Mean KL(adapter || merged), nats a token.
    pub kl: f64,
    /// Largest of them.
    pub kl_max: f64,
    /// Share of tokens with the same most likely continuation.
    pub top1_agreement: f64,
    /// Largest difference of any logit.
    pub largest_logit_difference: f64,
    /// Mean KL(base || base quantized alike), nats a token, where the model is written quantized.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "packing_kl")]
    pub quantization_kl: Option<f64>,
    /// What `kl` may be at most.
    pub limit: f64,
}

impl Probe {
    /// The first rows with at least one token, cut to a bounded length.
    pub fn from_dataset(dataset: &Dataset) -> Self {
        let ids = |example: Example| example.tokens().ok().map(|tokens| tokens.input_ids.clone());
        Self::from_rows(dataset.examples().filter_map(Result::ok).filter_map(ids))
    }

    /// The same of these rows.
    pub fn from_rows(rows: impl Iterator<Item = Vec<u32>>) -> Self {
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

/// Folds the adapters of `adapted` into its weights, writes a model folder to `out`, reads it back and compares. Without `asked` each tensor
/// is written as in the base; a quantized base is dequantized to the precision it was quantized from.
///
/// # Errors
/// Those of reading and writing; a result that diverges by more than the threshold. Then `out` is as it was.
pub fn merge_into(
    adapted: &CausalLm,
    base: &Path,
    out: &Path,
    asked: Option<WriteAs>,
    probe: &Probe,
    template: Option<&ChatTemplate>,
) -> Result<Receipt, Error> {
    let adapted = adapted.for_inference();
    let write_as = decide(asked, &adapted);
    let quantization_kl = match write_as {
        WriteAs::Quantized(scheme) => Some(cost_of_quantization(&adapted, scheme, probe)?),
        WriteAs::Stored | WriteAs::Dense(_) => None,
    };
    let mut receipt = None;
    write_folder(out, |folder| {
        let mut merged = adapted.clone();
        merged.merge()?;
        merged.save_weights(folder, write_as, Some(&Checkpoint::open(base)?))?;
        companions::write(base, folder, &merged, write_as, template)?;
        drop(merged);
        let written = CausalLm::load(folder, Hold::F32, &adapted.decoder().device())?;
        let found = Receipt {
            dtype: match write_as {
                WriteAs::Stored => None,
                WriteAs::Dense(dtype) => Some(dtype.name().to_owned()),
                WriteAs::Quantized(scheme) => Some(scheme.to_string()),
            },
            quantization_kl,
            limit: quantization_kl.map_or(LARGEST_DIVERGENCE, |kl| {
                (LARGEST_DIVERGENCE + OF_QUANTIZATION * kl).min(LARGEST_QUANTIZED_DIVERGENCE)
            }),
            ..compare(&adapted, &written, probe)
        };
        if found.kl.is_nan() || found.kl > found.limit {
            return Err(Error::Merge { problem: found.to_string() });
        }
        receipt = Some(found);
        Ok(())
    })?;
    receipt.ok_or_else(|| Error::Merge { problem: "nothing was compared".into() })
}

/// Codes that the base is quantized with, in its folder or in memory, are written as they are quantized there.
fn decide(asked: Option<WriteAs>, adapted: &CausalLm) -> WriteAs {
    let held = adapted.quantized_weights().first().map(|weight| weight.scheme());
    match (asked, held, adapted.stored_scheme()) {
        (
            Some(WriteAs::Quantized(QuantizationScheme::FourBit { code, .. })),
            Some(held @ QuantizationScheme::FourBit { code: found, .. }),
            _,
        ) if code == found => WriteAs::Quantized(held),
        (Some(asked), ..) => asked,
        (None, _, Some((_, precision))) => WriteAs::Dense(precision),
        (None, _, None) => WriteAs::Stored,
    }
}

/// Mean divergence of the base from itself quantized so. A base that is quantized already is quantized down its columns, which disturbs it as much as
/// quantization disturbed it before.
fn cost_of_quantization(adapted: &CausalLm, scheme: QuantizationScheme, probe: &Probe) -> Result<f64, Error> {
    let mut base = adapted.clone();
    base.update(|mut decoder| {
        decoder.linears_mut().into_iter().for_each(|(_, map)| drop(map.detach()));
        decoder
    });
    let mut quantized = base.clone();
    let device = base.decoder().device();
    let mut problem = None;
    quantized.update(|mut decoder| {
        for (path, map) in decoder.linears_mut() {
            if let Err(error) = map.quantize_anew(scheme, &device) {
                problem.get_or_insert(format!("{path}: {error}"));
            }
        }
        decoder
    });
    match problem {
        Some(problem) => Err(Error::Merge { problem }),
        None => Ok(compare(&base, &quantized, probe).kl),
    }
}

fn compare(adapted: &CausalLm, merged: &CausalLm, probe: &Probe) -> Receipt {
    let mut receipt = Receipt {
        rows: probe.rows.len(),
        tokens: 0,
        dtype: None,
        kl: 0.0,
        kl_max: 0.0,
        top1_agreement: 0.0,
        largest_logit_difference: 0.0,
        quantization_kl: None,
        limit: LARGEST_DIVERGENCE,
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
            "KL(adapter || merged) {:.2e} nats (largest {:.2e}; at most {:.2e} is allowed), same first choice {:.1} %, largest logit difference {:.2e}, {} tokens, {}",
            self.kl,
            self.kl_max,
            self.limit,
            self.top1_agreement * 100.0,
            self.largest_logit_difference,
            self.tokens,
            self.dtype.as_deref().unwrap_or("dtype of the base")
        )?;
        match self.quantization_kl {
            Some(kl) => write!(f, "; quantizing the base alone costs {kl:.2e} nats"),
            None => Ok(()),
        }
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
