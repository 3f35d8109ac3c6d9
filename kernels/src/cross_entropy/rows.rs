//! What happens to the logits of one token: bias, cap, log-sum-exp, loss, gradient, best token. Each is a pass over a row that lies in a cache.

use super::Regularisation;
use crate::{
    functions::{exp, tanh},
    sums::{maximum, sum_of},
};

/// Partial results side by side; their order is fixed, so sums are too.
const LANES: usize = 32;

/// The terms of a loss beside cross-entropy, for a vocabulary of a certain size.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// What label smoothing takes from the target.
    smoothing: f32,
    /// What it gives to each token.
    uniform: f32,
    z_loss: f32,
}

impl Terms {
    pub fn new(terms: Regularisation, vocab: usize) -> Self {
        let Regularisation { label_smoothing, z_loss } = terms;
        let uniform = (label_smoothing / vocab as f64) as f32;
        Self { smoothing: label_smoothing as f32, uniform, z_loss: z_loss as f32 }
    }
}

/// The loss of one token and what it is made of, times its weight.
#[derive(Clone, Copy, Default)]
pub(super) struct TokenLoss {
    pub all: f32,
    pub cross_entropy: f32,
    pub squared_log_sum: f32,
}

/// The loss of a token, given its logits and their log-sum-exp.
#[inline(always)]
pub(super) fn loss(row: &[f32], log_sum: f32, target: usize, weight: f32, terms: Terms) -> TokenLoss {
    let cross_entropy = weight * (log_sum - row[target]);
    let mut all = cross_entropy;
    let mut squared_log_sum = 0.0;
    if terms.smoothing > 0.0 {
        // Distances to the log-sum-exp, so that a mean of large logits is not subtracted from a large number.
        let mean = sum_of::<LANES>(row, row, |logit, _| log_sum - logit) / row.len() as f32;
        all = weight * ((1.0 - terms.smoothing) * (log_sum - row[target]) + terms.smoothing * mean);
    }
    if terms.z_loss > 0.0 {
        squared_log_sum = weight * (log_sum * log_sum);
        all += terms.z_loss * squared_log_sum;
    }
    TokenLoss { all, cross_entropy, squared_log_sum }
}

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

/// Turns (softened) logits into the derivative of the token's loss by the logits before softening. With probabilities `p` it is
/// `weight * ((1 + 2 z log_sum) p - e / vocab)`, less `weight * (1 - e)` at the target.
#[inline(always)]
pub(super) fn derive(row: &mut [f32], log_sum: f32, target: usize, weight: f32, cap: Option<f32>, terms: Terms) {
    let of_target = row[target];
    let (factor, uniform) = (1.0 + 2.0 * terms.z_loss * log_sum, terms.uniform);
    let of_label = weight * (1.0 - terms.smoothing);
    match cap {
        None => {
            for logit in row.iter_mut() {
                *logit = weight * (factor * exp(*logit - log_sum) - uniform);
            }
            row[target] -= of_label;
        }
        Some(cap) => {
            let slope = |logit: f32| 1.0 - (logit / cap) * (logit / cap);
            for logit in row.iter_mut() {
                *logit = weight * (factor * exp(*logit - log_sum) - uniform) * slope(*logit);
            }
            row[target] -= of_label * slope(of_target);
        }
    }
}
