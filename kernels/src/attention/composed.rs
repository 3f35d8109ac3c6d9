//! Attention in plain Burn operations: the meaning of the fused form, and what runs on devices without one.
//!
//! It holds the scores of all pairs, and Burn's autodiff keeps them until the backward pass.

use super::AttentionOptions;
use burn::tensor::{Bool, Int, Tensor, activation::softmax};

/// Below every score, and finite: a row without any visible key must not become NaN before it is set to zero.
const HIDDEN: f32 = -1e30;

/// [`super::attention`] in plain Burn operations.
pub fn composed(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    segments: Option<(Tensor<2, Int>, Tensor<2, Int>)>,
    options: &AttentionOptions,
) -> Tensor<4> {
    let [batch, queries, heads, head_dim] = q.dims();
    let [_, keys, groups, value_dim] = v.dims();
    let device = q.device();
    let shared = heads / groups;

    // The query heads of one key-value head lie behind each other, so that one product serves them all.
    let q = q.swap_dims(1, 2).reshape([batch, groups, shared * queries, head_dim]);
    let scores = q.matmul(k.swap_dims(1, 2).swap_dims(2, 3));
    let mut scores = scores.mul_scalar(options.scale).reshape([batch, heads, queries, keys]);

    let key = Tensor::<1, Int>::arange(0..keys as i64, &device).reshape([1, 1, 1, keys]);
    let query = Tensor::<1, Int>::arange((keys - queries) as i64..keys as i64, &device).reshape([1, 1, queries, 1]);
    let distance = key.expand([1, 1, queries, keys]) - query.expand([1, 1, queries, keys]);

    if let Some(slopes) = &options.alibi_slopes {
        let slopes = Tensor::<1>::from_floats(slopes.as_slice(), &device).reshape([1, heads, 1, 1]);
        scores = scores + distance.clone().float() * slopes;
    }
    if let Some(cap) = options.softcap {
        scores = scores.div_scalar(cap).tanh().mul_scalar(cap);
    }
    let mut hidden: Tensor<4, Bool> = distance.clone().greater_elem(0);
    if let Some(window) = options.window {
        hidden = hidden.bool_or(distance.lower_equal_elem(-(window as i64)));
    }
    let mut hidden = hidden.expand([batch, 1, queries, keys]);
    if let Some((query_segments, key_segments)) = segments {
        let query_segments = query_segments.reshape([batch, 1, queries, 1]).expand([batch, 1, queries, keys]);
        let key_segments = key_segments.reshape([batch, 1, 1, keys]).expand([batch, 1, queries, keys]);
        hidden = hidden.bool_or(query_segments.not_equal(key_segments));
    }
    let visible = hidden.clone().bool_not().float();
    let hidden = hidden.expand([batch, heads, queries, keys]);
    let weights = softmax(scores.mask_fill(hidden, HIDDEN), 3) * visible;

    let weights = weights.reshape([batch, groups, shared * queries, keys]);
    let out = weights.matmul(v.swap_dims(1, 2));
    out.reshape([batch, heads, queries, value_dim]).swap_dims(1, 2)
}
