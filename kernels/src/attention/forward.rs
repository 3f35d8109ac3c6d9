//! The forward pass: outputs, and the logarithm of every query's sum for the backward pass.

use super::{
    problem::{Problem, TileAt},
    scores::{Row, hide},
};
use crate::{
    cpu::{BlockMut, Fresh, vectorised},
    matmul::{Elements, Matrix, Store, multiply},
    scratch::with_buffer,
    work::operation,
};
use rayon::prelude::*;
use std::{cell::RefCell, cmp::Reverse, ops::Range};

thread_local! {
    static TILE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Rows of scores start at an odd multiple of a cache line, so that rows under each other do not share one cache set.
pub(super) fn padded(keys: usize) -> usize {
    keys.next_multiple_of(32) + 16
}

/// `[batch, queries, heads, value_dim]` and the log-sum-exp `[batch, queries, heads]` (minus infinity if nothing is seen).
pub(super) fn forward(problem: &Problem) -> (Vec<f32>, Vec<f32>) {
    operation!("attention");
    let rows = problem.batch * problem.queries;
    let width = problem.heads * problem.value_dim;
    let (mut out, mut log_sums) = (Fresh::new(rows * width), Fresh::new(rows * problem.heads));
    let mut tiles: Vec<_> = problem
        .tiles()
        .into_iter()
        .zip(problem.blocks(&mut out, problem.value_dim))
        .zip(problem.blocks(&mut log_sums, 1))
        .collect();
    // The longest first: they are the last queries of their row.
    tiles.sort_by_key(|((at, _), _)| Reverse(at.queries.start));
    tiles.into_par_iter().with_max_len(1).for_each(|((at, mut out), mut log_sums)| {
        out.clear();
        log_sums.clear();
        (0..log_sums.rows()).for_each(|row| log_sums.row(row).fill(f32::NEG_INFINITY));
        let keys = problem.keys_of(&at);
        if !keys.is_empty() {
            tile(problem, &at, keys, out, log_sums);
        }
    });
    (out.finish(), log_sums.finish())
}

fn tile(problem: &Problem, at: &TileAt, keys: Range<usize>, mut to: BlockMut, mut log_sums: BlockMut) {
    let (head_dim, value_dim, shared) = (problem.head_dim, problem.value_dim, problem.shared());
    let rows = at.queries.len() * shared;
    let stride = padded(keys.len());
    with_buffer(&TILE, rows * (head_dim + value_dim + stride), |buffer| {
        let (q, buffer) = buffer.split_at_mut(rows * head_dim);
        let (out, scores) = buffer.split_at_mut(rows * value_dim);
        problem.gather(q, problem.q, head_dim, at, problem.options.scale as f32);
        let q = Matrix::dense(Elements::F32(q), rows, head_dim);
        let k = problem.key_matrix(at.batch, at.group, keys.clone());
        multiply(scores, stride, q, k.transposed(), Store::Replace, problem.options.precision);

        let mut ends = vec![(0.0, 0.0); rows];
        for (index, (scores, end)) in scores.chunks_exact_mut(stride).zip(&mut ends).enumerate() {
            let row = Row::new(problem, at, &keys, index);
            let scores = &mut scores[..keys.len()];
            vectorised(
                #[inline(always)]
                || row.finish_scores(&mut scores[row.seen.clone()]),
            );
            hide(problem, at, &keys, index, scores, f32::NEG_INFINITY);
            scores[..row.seen.start].fill(0.0);
            scores[row.seen.end..].fill(0.0);
            *end = vectorised(
                #[inline(always)]
                || row.weigh(&mut scores[row.seen.clone()]),
            );
        }

        let weights = Matrix::strided(scores, rows, keys.len(), stride);
        let v = problem.value_matrix(at.batch, at.group, keys.clone());
        multiply(out, value_dim, weights, v, Store::Replace, problem.options.precision);
        for (index, (out, (largest, sum))) in out.chunks_exact(value_dim).zip(ends).enumerate() {
            if largest == f32::NEG_INFINITY && sum == 0.0 {
                continue; // Nothing seen: zeros.
            }
            let (query, head) = (index / shared, index % shared);
            log_sums.row(query)[head] = largest + sum.ln();
            let to = &mut to.row(query)[head * value_dim..(head + 1) * value_dim];
            for (to, from) in to.iter_mut().zip(out) {
                *to = from / sum;
            }
        }
    });
}
