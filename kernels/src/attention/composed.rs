//! Attention in plain Burn operations: the meaning of the fused form, and what runs on devices without one.
//!
//! It holds the scores of all pairs, and Burn's autodiff keeps them until the backward pass.

use super::{
    Alibi, AttentionOptions, Sight,
    alibi::{round, rounded_bias},
};
use crate::portable::multiply;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation::softmax};

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
    let precision = options.precision;
    let q = precision.round(q.mul_scalar(options.scale));
    let scores = multiply(q, precision.round(k).swap_dims(1, 2).swap_dims(2, 3), precision);
    let mut scores = scores.reshape([batch, heads, queries, keys]);

    let key = Tensor::<1, Int>::arange(0..keys as i64, &device).reshape([1, 1, 1, keys]);
    let query =
        Tensor::<1, Int>::arange(keys as i64 - queries as i64..keys as i64, &device).reshape([1, 1, queries, 1]);
    let distance = key.clone().expand([1, 1, queries, keys]) - query.clone().expand([1, 1, queries, keys]);

    let other_segment = segments.map(|(query_segments, key_segments)| {
        let query_segments = query_segments.reshape([batch, 1, queries, 1]).expand([batch, 1, queries, keys]);
        let key_segments = key_segments.reshape([batch, 1, 1, keys]).expand([batch, 1, queries, keys]);
        query_segments.not_equal(key_segments)
    });
    match &options.alibi {
        None => {}
        Some(Alibi::Exact { slopes }) => {
            let slopes = Tensor::<1>::from_floats(slopes.as_slice(), &device).reshape([1, heads, 1, 1]);
            scores = scores + distance.clone().float() * slopes;
        }
        Some(Alibi::Bf16 { slopes }) => {
            // The first key of each query's segment.
            let key = key.expand([batch, 1, queries, keys]);
            let origin = match &other_segment {
                Some(other) => key.clone().mask_fill(other.clone(), keys as i64).min_dim(3),
                None => Tensor::zeros([batch, 1, queries, 1], &device),
            };
            let table = rounded_biases(slopes, keys, &device);
            let of_keys = at_positions(&table, key - origin.clone());
            let of_query = at_positions(&table, query.expand([batch, 1, queries, 1]) - origin);
            scores = scores + (of_keys - of_query).mul_scalar(options.scale);
        }
    }
    if let Some(cap) = options.softcap {
        scores = scores.div_scalar(cap).tanh().mul_scalar(cap);
    }
    let hidden: Tensor<4, Bool> = match options.sight {
        Sight::Causal { window: None } => distance.clone().greater_elem(0),
        Sight::Causal { window: Some(window) } => {
            distance.clone().greater_elem(0).bool_or(distance.lower_equal_elem(-(window as i64)))
        }
        Sight::Full => distance.greater_elem((keys + queries) as i64),
    };
    let mut hidden = hidden.expand([batch, 1, queries, keys]);
    if let Some(other_segment) = other_segment {
        hidden = hidden.bool_or(other_segment);
    }
    let visible = hidden.clone().bool_not().float();
    let hidden = hidden.expand([batch, heads, queries, keys]);
    let weights = softmax(scores.mask_fill(hidden, HIDDEN), 3) * visible;

    let weights = weights.reshape([batch, groups, shared * queries, keys]);
    let out = multiply(weights, v.swap_dims(1, 2), precision);
    out.reshape([batch, heads, queries, value_dim]).swap_dims(1, 2)
}

/// The bias of every head at every position, `[heads, positions]`. Rounded here: not every device has bf16.
fn rounded_biases(slopes: &[f32], positions: usize, device: &Device) -> Tensor<2> {
    let of_head = |slope: &f32| {
        let slope = round(*slope);
        (0..positions).map(move |position| rounded_bias(slope, position as f32))
    };
    let table: Vec<f32> = slopes.iter().flat_map(of_head).collect();
    Tensor::from_data(TensorData::new(table, [slopes.len(), positions]), device)
}

/// The columns of `table` `[heads, positions]` at `positions` `[batch, 1, queries, keys]`, as `[batch, heads, queries, keys]`.
///
/// Positions outside the table belong to keys that are not seen.
fn at_positions(table: &Tensor<2>, positions: Tensor<4, Int>) -> Tensor<4> {
    let [batch, _, queries, keys] = positions.dims();
    let [heads, most] = table.dims();
    let positions = positions.clamp(0, most as i64 - 1).reshape([batch * queries * keys]);
    table.clone().select(1, positions).reshape([heads, batch, queries, keys]).swap_dims(0, 1)
}
