//! The backward pass: the scores again, tile by tile, and from them the three gradients.

use super::{
    forward::padded,
    problem::{Problem, TileAt},
    scores::{Row, hide},
};
use crate::{
    cpu::{BlockMut, Fresh, vectorised},
    matmul::{Elements, Matrix, Store, multiply},
    scratch::with_buffer,
    sums::inner_product,
    work::operation,
};
use rayon::prelude::*;
use std::{cell::RefCell, ops::Range};

/// Tasks to cut the work into at least. Part of the result: each task sums its own gradients of keys and values, and these sums are
/// added in order.
const TASKS: usize = 16;

thread_local! {
    static TILE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// What the backward pass knows beside the operands.
pub(super) struct Results<'a> {
    /// `[batch, queries, heads, value_dim]`.
    pub out: &'a [f32],
    /// `[batch, queries, heads]`.
    pub log_sums: &'a [f32],
    /// The gradient of `out`.
    pub grad: &'a [f32],
}

/// The gradients of `q`, `k` and `v`.
pub(super) fn backward(problem: &Problem, results: &Results) -> [Vec<f32>; 3] {
    operation!("attention backward");
    let (head_dim, value_dim) = (problem.head_dim, problem.value_dim);
    let (rows, width) = (problem.batch * problem.queries, problem.heads * head_dim);
    let pairs = problem.batch * problem.groups;
    let along = problem.queries.div_ceil(problem.tile_queries());
    let parts = TASKS.div_ceil(pairs.max(1)).min(along).max(1);

    let mut d_q = Fresh::new(rows * width);
    // A part takes every so-manieth tile, since later tiles see more keys.
    let mut tasks: Vec<Vec<(TileAt, BlockMut)>> = (0..pairs * parts).map(|_| Vec::new()).collect();
    for (at, d_q) in problem.tiles().into_iter().zip(problem.blocks(&mut d_q, head_dim)) {
        let (pair, part) = (at.batch * problem.groups + at.group, at.queries.start / problem.tile_queries() % parts);
        tasks[pair * parts + part].push((at, d_q));
    }
    let task = |tiles: Vec<(TileAt, BlockMut)>| {
        let mut sums = [vec![0.0; problem.keys * head_dim], vec![0.0; problem.keys * value_dim]];
        for (at, mut d_q) in tiles {
            d_q.clear();
            let keys = problem.keys_of(&at);
            if !keys.is_empty() {
                tile(problem, results, &at, keys, d_q, &mut sums);
            }
        }
        sums
    };
    let sums: Vec<[Vec<f32>; 2]> = tasks.into_par_iter().with_max_len(1).map(task).collect();
    let gather = |which: usize, dim: usize| {
        let mut all = Fresh::new(problem.batch * problem.keys * problem.groups * dim);
        all.par_chunks((problem.groups * dim).max(1)).enumerate().for_each(|(row, all)| {
            let (batch, key) = (row / problem.keys, row % problem.keys);
            for (group, all) in all.chunks_exact_mut(dim).enumerate() {
                let first = (batch * problem.groups + group) * parts;
                for sum in &sums[first..first + parts] {
                    for (to, from) in all.iter_mut().zip(&sum[which][key * dim..]) {
                        *to += from;
                    }
                }
            }
        });
        all.finish()
    };
    let (d_k, d_v) = (gather(0, head_dim), gather(1, value_dim));
    [d_q.finish(), d_k, d_v]
}

fn tile(
    problem: &Problem,
    results: &Results,
    at: &TileAt,
    keys: Range<usize>,
    mut d_q_of_tile: BlockMut,
    [d_k, d_v]: &mut [Vec<f32>; 2],
) {
    let (head_dim, value_dim, shared) = (problem.head_dim, problem.value_dim, problem.shared());
    let (rows, stride, scale) = (at.queries.len() * shared, padded(keys.len()), problem.options.scale as f32);
    with_buffer(&TILE, rows * (2 * head_dim + 2 * value_dim + 2 * stride), |buffer| {
        let (q, buffer) = buffer.split_at_mut(rows * head_dim);
        let (d_q, buffer) = buffer.split_at_mut(rows * head_dim);
        let (out, buffer) = buffer.split_at_mut(rows * value_dim);
        let (grad, buffer) = buffer.split_at_mut(rows * value_dim);
        let (scores, grads) = buffer.split_at_mut(rows * stride);
        problem.gather(q, problem.q, head_dim, at, scale);
        problem.gather(out, results.out, value_dim, at, 1.0);
        problem.gather(grad, results.grad, value_dim, at, 1.0);
        let q = Matrix::dense(Elements::F32(q), rows, head_dim);
        let d_out = Matrix::dense(Elements::F32(grad), rows, value_dim);
        let k = problem.key_matrix(at.batch, at.group, keys.clone());
        let v = problem.value_matrix(at.batch, at.group, keys.clone());
        multiply(scores, stride, q, k.transposed(), Store::Replace, problem.options.precision);
        multiply(grads, stride, d_out, v.transposed(), Store::Replace, problem.options.precision);

        let both = scores.chunks_exact_mut(stride).zip(grads.chunks_exact_mut(stride));
        let outputs = out.chunks_exact(value_dim).zip(grad.chunks_exact(value_dim));
        for (index, ((scores, grads), (out, grad))) in both.zip(outputs).enumerate() {
            let row = Row::new(problem, at, &keys, index);
            let (scores, grads) = (&mut scores[..keys.len()], &mut grads[..keys.len()]);
            let query = at.batch * problem.queries + at.queries.start + index / shared;
            let log_sum = results.log_sums[query * problem.heads + at.group * shared + index % shared];
            vectorised(
                #[inline(always)]
                || {
                    let seen = &mut scores[row.seen.clone()];
                    row.finish_scores(seen);
                    row.derive(seen, &mut grads[row.seen.clone()], log_sum, inner_product(out, grad));
                },
            );
            for values in [scores, grads] {
                hide(problem, at, &keys, index, values, 0.0);
                values[..row.seen.start].fill(0.0);
                values[row.seen.end..].fill(0.0);
            }
        }

        let weights = Matrix::strided(scores, rows, keys.len(), stride);
        let grads = Matrix::strided(grads, rows, keys.len(), stride);
        multiply(
            &mut d_v[keys.start * value_dim..],
            value_dim,
            weights.transposed(),
            d_out,
            Store::Add,
            problem.options.precision,
        );
        multiply(
            &mut d_k[keys.start * head_dim..],
            head_dim,
            grads.transposed(),
            q,
            Store::Add,
            problem.options.precision,
        );
        multiply(d_q, head_dim, grads, k, Store::Replace, problem.options.precision);
        for (query, d_q) in d_q.chunks_exact(shared * head_dim).enumerate() {
            let to = d_q_of_tile.row(query);
            for (to, from) in to.iter_mut().zip(d_q) {
                *to = from * scale;
            }
        }
    });
}
