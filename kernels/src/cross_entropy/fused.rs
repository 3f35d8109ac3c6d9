//! Head and cross-entropy on the CPU, a chunk of tokens at a time.

use super::{CrossEntropyBackend, rows};
use crate::{
    flex::{dense, integers, matrix, tensor, values},
    matmul::{Elements, Matrix, Store, multiply_parallel},
    simd::vectorised,
};
use burn::{
    backend::Flex,
    tensor::{Bytes, DType, Shape},
};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

/// Logits that exist at once (64 MiB of them), and the fewest and most tokens these may belong to: packing the head costs once a chunk.
const CHUNK: usize = 1 << 24;
const LEAST_TOKENS: usize = 48;
const MOST_TOKENS: usize = 1024;
/// Columns of logits that one task sums for the gradient of the bias.
const COLUMNS: usize = 4096;

/// Which gradients a forward pass should compute.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub hidden: bool,
    pub head: bool,
    pub bias: bool,
}

/// The loss, and the gradients as they are for a gradient of one on the loss.
pub(super) struct Loss {
    pub sum: FlexTensor,
    pub d_hidden: Option<FlexTensor>,
    pub d_head: Option<FlexTensor>,
    pub d_bias: Option<FlexTensor>,
}

/// The forward pass, with the gradients that are wanted.
pub(super) fn cross_entropy(
    hidden: FlexTensor,
    head: &FlexTensor,
    bias: FlexTensor,
    targets: &FlexTensor,
    weights: FlexTensor,
    softcap: Option<f64>,
    wanted: Wanted,
) -> Loss {
    let [hidden, bias, weights] = [hidden, bias, weights].map(dense);
    let (head, bias, weights) = (matrix(head), values(&bias), values(&weights));
    let targets = checked_targets(targets, head.rows);
    let (tokens, width, cap) = (targets.len(), head.columns, softcap.map(|cap| cap as f32));
    let mut d_hidden = vec![0.0; if wanted.hidden { tokens * width } else { 0 }];
    let mut d_head = vec![0.0; if wanted.head { head.rows * width } else { 0 }];
    let mut d_bias = vec![0.0; if wanted.bias { head.rows } else { 0 }];
    let mut losses = vec![0.0f32; tokens];

    for_each_chunk(values(&hidden), head, |first, chunk, logits| {
        let count = logits.len() / head.rows;
        let work = |((row, loss), token): ((&mut [f32], &mut f32), usize)| {
            vectorised(
                #[inline(always)]
                || {
                    rows::finish(row, bias, cap);
                    let (target, weight) = (targets[token], weights[token]);
                    let log_sum = rows::log_sum_exp(row);
                    *loss = weight * (log_sum - row[target]);
                    if wanted.hidden || wanted.head || wanted.bias {
                        rows::derive(row, log_sum, target, weight, cap);
                    }
                },
            );
        };
        let losses = &mut losses[first..first + count];
        logits.par_chunks_mut(head.rows).zip(losses).zip(first..first + count).for_each(work);
        let d_logits = Matrix::dense(Elements::F32(logits), count, head.rows);
        if wanted.hidden {
            multiply_parallel(&mut d_hidden[first * width..][..count * width], d_logits, head, Store::Replace);
        }
        if wanted.head {
            multiply_parallel(&mut d_head, d_logits.transposed(), chunk, Store::Add);
        }
        if wanted.bias {
            add_rows(&mut d_bias, logits);
        }
    });
    let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    Loss {
        sum: tensor(vec![sum as f32], [1]),
        d_hidden: wanted.hidden.then(|| tensor(d_hidden, [tokens, width])),
        d_head: wanted.head.then(|| tensor(d_head, [head.rows, width])),
        d_bias: wanted.bias.then(|| tensor(d_bias, [head.rows])),
    }
}

/// Calls `work` with the first token of a chunk, its hidden states and its logits `[count, vocab]`, in order.
fn for_each_chunk(hidden: &[f32], head: Matrix, mut work: impl FnMut(usize, Matrix, &mut [f32])) {
    let (vocab, width) = (head.rows, head.columns);
    if vocab == 0 || width == 0 || hidden.is_empty() {
        return;
    }
    let tokens = hidden.len() / width;
    let most = (CHUNK / vocab).clamp(LEAST_TOKENS, MOST_TOKENS).min(tokens);
    // Even chunks: the last one packs the head as well.
    let size = tokens.div_ceil(tokens.div_ceil(most));
    let mut logits = vec![0.0; size * vocab];
    for (index, chunk) in hidden.chunks(size * width).enumerate() {
        let count = chunk.len() / width;
        let chunk = Matrix::dense(Elements::F32(chunk), count, width);
        let logits = &mut logits[..count * vocab];
        multiply_parallel(logits, chunk, head.transposed(), Store::Replace);
        work(index * size, chunk, logits);
    }
}

/// Adds the rows of a matrix to `sums`, first to last.
fn add_rows(sums: &mut [f32], matrix: &[f32]) {
    let width = sums.len();
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(task, sums)| {
        for row in matrix.chunks_exact(width) {
            for (sum, value) in sums.iter_mut().zip(&row[task * COLUMNS..]) {
                *sum += value;
            }
        }
    });
}

fn checked_targets(targets: &FlexTensor, vocab: usize) -> Vec<usize> {
    let check = |target: i64| match usize::try_from(target) {
        Ok(target) if target < vocab => target,
        _ => panic!("target {target} is not in a vocabulary of {vocab}"),
    };
    integers(targets).into_iter().map(check).collect()
}

impl CrossEntropyBackend for Flex {
    fn fused_cross_entropy(
        hidden: FlexTensor,
        head: FlexTensor,
        bias: FlexTensor,
        targets: FlexTensor,
        weights: FlexTensor,
        softcap: Option<f64>,
    ) -> FlexTensor {
        let nothing = Wanted { hidden: false, head: false, bias: false };
        cross_entropy(hidden, &head, bias, &targets, weights, softcap, nothing).sum
    }

    fn fused_token_statistics(
        hidden: FlexTensor,
        head: FlexTensor,
        bias: FlexTensor,
        targets: FlexTensor,
        softcap: Option<f64>,
    ) -> (FlexTensor, FlexTensor) {
        let [hidden, bias] = [hidden, bias].map(dense);
        let (head, bias, cap) = (matrix(&head), values(&bias), softcap.map(|cap| cap as f32));
        let dtype = targets.dtype();
        let targets = checked_targets(&targets, head.rows);
        let mut found = vec![(0.0f32, 0usize); targets.len()];
        for_each_chunk(values(&hidden), head, |first, _, logits| {
            let found = found[first..].par_iter_mut().zip(&targets[first..]);
            logits.par_chunks_mut(head.rows).zip(found).for_each(|(row, (found, target))| {
                vectorised(
                    #[inline(always)]
                    || {
                        rows::finish(row, bias, cap);
                        *found = (row[*target] - rows::log_sum_exp(row), rows::first_maximum(row));
                    },
                );
            });
        });
        let log_probabilities = found.iter().map(|found| found.0).collect();
        let most_likely = found.iter().map(|found| found.1);
        let most_likely = match dtype {
            DType::I32 => Bytes::from_elems(most_likely.map(|index| index as i32).collect::<Vec<_>>()),
            _ => Bytes::from_elems(most_likely.map(|index| index as i64).collect::<Vec<_>>()),
        };
        let layout = Layout::contiguous(Shape::from([targets.len()]));
        (tensor(log_probabilities, [targets.len()]), FlexTensor::new(most_likely, layout, dtype))
    }
}
