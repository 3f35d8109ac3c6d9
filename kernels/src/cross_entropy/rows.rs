//! What happens to the logits of one token: bias, cap, log-sum-exp, gradient, best token. Each is a pass over a row that lies in a cache.

use crate::functions::{exp, tanh};

/// Partial results side by side; their order is fixed, so sums are too.
const LANES: usize = 32;

/// Products become logits: adds the bias, then replaces every logit by `cap * tanh(logit / cap)`.
#[inline(always)]
pub(super) fn finish(row: &mut [f32], bias: &[f32], cap: Option<f32>) {
    match cap {
        None => {
            for (logit, bias) in row.iter_mut().zip(bias) {
                *logit += bias;
            }
        }
        Some(cap) => {
            for (logit, bias) in row.iter_mut().zip(bias) {
                *logit = cap * tanh((*logit + bias) / cap);
            }
        }
    }
}

/// `log sum exp` of a row. NaN if any logit is NaN or infinitely large.
#[inline(always)]
pub(super) fn log_sum_exp(row: &[f32]) -> f32 {
    let largest = maximum(row);
    let mut sums = [0.0; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += exp(chunk[lane] - largest);
        }
    }
    for (sum, logit) in sums.iter_mut().zip(rest) {
        *sum += exp(*logit - largest);
    }
    largest + sums.iter().sum::<f32>().ln()
}

/// The largest number of a row, which NaN does not hide: the sum over a row with NaN is NaN anyway.
#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            best[lane] = if chunk[lane] > best[lane] { chunk[lane] } else { best[lane] };
        }
    }
    for (best, logit) in best.iter_mut().zip(rest) {
        *best = if *logit > *best { *logit } else { *best };
    }
    best.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
}

/// The first of the largest numbers of a row.
#[inline(always)]
pub(super) fn first_maximum(row: &[f32]) -> usize {
    let largest = maximum(row);
    row.iter().position(|logit| *logit == largest).unwrap_or(0)
}

/// Turns (softened) logits into the derivative of `weight * -log softmax[target]` by the logits before softening.
#[inline(always)]
pub(super) fn derive(row: &mut [f32], log_sum: f32, target: usize, weight: f32, cap: Option<f32>) {
    let of_target = row[target];
    match cap {
        None => {
            for logit in row.iter_mut() {
                *logit = weight * exp(*logit - log_sum);
            }
            row[target] -= weight;
        }
        Some(cap) => {
            let slope = |logit: f32| 1.0 - (logit / cap) * (logit / cap);
            for logit in row.iter_mut() {
                *logit = weight * exp(*logit - log_sum) * slope(*logit);
            }
            row[target] -= weight * slope(of_target);
        }
    }
}
