//! The scores of one query head with the keys of its tile: bias, cap, mask, and what both passes make of them.

use super::{
    Alibi,
    alibi::{round, rounded_bias},
    problem::{Problem, TileAt},
};
use crate::{
    functions::{exp, tanh},
    sums::{LANES, maximum},
};
use std::ops::Range;

/// One row of a tile: a query with one of its heads.
pub(super) struct Row {
    /// The keys it sees, counted from the first key of the tile.
    pub seen: Range<usize>,
    bias: Option<Bias>,
    cap: Option<f32>,
}

/// What [`Alibi`] is for one row.
enum Bias {
    /// The distance is that of the first key the row sees.
    Exact { slope: f32, distance: f32 },
    /// The position is that of the first key the row sees, in its segment; the slope is rounded.
    Bf16 { slope: f32, position: f32, of_query: f32, scale: f32 },
}

impl Row {
    /// `index` counts queries first, then the heads that share a key-value head.
    pub fn new(problem: &Problem, at: &TileAt, keys: &Range<usize>, index: usize) -> Self {
        let (query, head) = (at.queries.start + index / problem.shared(), index % problem.shared());
        let sight = problem.sight(at.batch, query);
        let seen = match sight.keys.is_empty() {
            true => 0..0,
            false => sight.keys.start - keys.start..sight.keys.end - keys.start,
        };
        let head = at.group * problem.shared() + head;
        let bias = problem.options.alibi.as_ref().map(|alibi| match alibi {
            Alibi::Exact { slopes } => {
                Bias::Exact { slope: slopes[head], distance: sight.keys.start as f32 - problem.position(query) as f32 }
            }
            Alibi::Bf16 { slopes } => {
                let in_segment = |position: usize| (position - sight.origin) as f32;
                Bias::Bf16 {
                    slope: round(slopes[head]),
                    position: in_segment(sight.keys.start),
                    of_query: rounded_bias(round(slopes[head]), in_segment(problem.position(query))),
                    scale: problem.options.scale as f32,
                }
            }
        });
        Self { seen, bias, cap: problem.options.softcap.map(|cap| cap as f32) }
    }

    /// Scaled products become scores: bias, then cap.
    #[inline(always)]
    pub fn finish_scores(&self, seen: &mut [f32]) {
        match self.bias {
            None => {}
            Some(Bias::Exact { slope, distance }) => {
                for (index, score) in seen.iter_mut().enumerate() {
                    *score += slope * (distance + index as f32);
                }
            }
            Some(Bias::Bf16 { slope, position, of_query, scale }) => {
                for (index, score) in seen.iter_mut().enumerate() {
                    *score += scale * (rounded_bias(slope, position + index as f32) - of_query);
                }
            }
        }
        if let Some(cap) = self.cap {
            for score in seen.iter_mut() {
                *score = cap * tanh(*score / cap);
            }
        }
    }

    /// Scores become weights before division by their sum. Returns the largest score and the sum.
    #[inline(always)]
    pub fn weigh(&self, seen: &mut [f32]) -> (f32, f32) {
        let largest = maximum::<LANES>(seen);
        let mut sums = [0.0; LANES];
        let mut chunks = seen.chunks_exact_mut(LANES);
        for chunk in &mut chunks {
            for lane in 0..LANES {
                chunk[lane] = exp(chunk[lane] - largest);
                sums[lane] += chunk[lane];
            }
        }
        for (sum, score) in sums.iter_mut().zip(chunks.into_remainder()) {
            *score = exp(*score - largest);
            *sum += *score;
        }
        (largest, sums.iter().sum())
    }

    /// Scores become weights, and the gradients of weights those of products before the scale.
    ///
    /// `log_sum` is that of the forward pass, `inner` the product of output and its gradient.
    #[inline(always)]
    pub fn derive(&self, scores: &mut [f32], grads: &mut [f32], log_sum: f32, inner: f32) {
        match self.cap {
            None => {
                for (score, grad) in scores.iter_mut().zip(grads) {
                    *score = exp(*score - log_sum);
                    *grad = *score * (*grad - inner);
                }
            }
            Some(cap) => {
                for (score, grad) in scores.iter_mut().zip(grads) {
                    let bend = *score / cap;
                    *score = exp(*score - log_sum);
                    *grad = *score * (*grad - inner) * (1.0 - bend * bend);
                }
            }
        }
    }
}

/// Sets to `value` what the query of a row does not see although it lies between keys it sees.
pub(super) fn hide(problem: &Problem, at: &TileAt, keys: &Range<usize>, index: usize, row: &mut [f32], value: f32) {
    let query = at.queries.start + index / problem.shared();
    if !problem.sight(at.batch, query).mixed {
        return;
    }
    for (score, same) in row.iter_mut().zip(problem.same_segment(at.batch, query, keys.clone())) {
        if !same {
            *score = value;
        }
    }
}
