//! What happens to the logits of one token: bias, cap, log-sum-exp, gradient, best token. Each is a pass over a row that lies in a cache.

use crate::{
    functions::{exp, tanh},
    sums::{maximum, sum_of},
};

/// Partial results side by side; their order is fixed, so sums are too.
const LANES: usize = 32;

/// Products become logits: adds the bias, then replaces every logit by `cap * tanh(logit / cap)`.
#[inline(always)]
pub(crate) fn finish(row: &mut [f32], bias: &[f32], cap: Option<f32>) {
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
pub(crate) fn log_sum_exp(row: &[f32]) -> f32 {
    let largest = maximum::<LANES>(row);
    largest + sum_of::<LANES>(row, row, |logit, _| exp(logit - largest)).ln()
}

/// The first of the largest numbers of a row.
#[inline(always)]
pub(super) fn first_maximum(row: &[f32]) -> usize {
    let largest = maximum::<LANES>(row);
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
