//! Head and cross-entropy on the CPU, a chunk of tokens at a time.

use super::{CrossEntropyBackend, Regularisation, rows};
use crate::{
    cpu::vectorised,
    flex::{dense, integers, matrix, tensor, values},
    matmul::{Elements, Matrix, Store, multiply_parallel},
    precision::Precision,
    work::operation,
};
use burn::{
    backend::Flex,
    tensor::{Bytes, DType, Shape},
};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

/// Logits that exist at once (64 MiB of them), and the fewest and most tokens these may belong to. The head is packed once a chunk, which
/// for 130 tokens costs a third of their products.
const CHUNK: usize = 1 << 24;
const LEAST_TOKENS: usize = 256;
const MOST_TOKENS: usize = 1024;
/// Columns of logits that one task sums for the gradient of the bias.
const COLUMNS: usize = 4096;

/// Which gradients a forward pass should compute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub hidden: bool,
    pub head: bool,
    pub low_rank: bool,
    pub bias: bool,
}

/// Gradients of hidden states and head, summed chunk by chunk. What is not wanted has no room.
pub(crate) struct Derivatives {
    wanted: Wanted,
    sizes: [usize; 4],
    hidden: Vec<f32>,
    head: Vec<f32>,
    low_rank: Vec<f32>,
    bias: Vec<f32>,
}

impl Derivatives {
    /// Zeros for so many tokens.
    pub fn zeros(wanted: Wanted, tokens: usize, head: Head<'_>) -> Self {
        let (vocab, width, rank) = (head.matrix.rows, head.matrix.columns, head.low_rank.columns);
        let room = |wanted: bool, size: usize| vec![0.0f32; if wanted { size } else { 0 }];
        Self {
            wanted,
            sizes: [tokens, width, rank, vocab],
            hidden: room(wanted.hidden, tokens * (width + rank)),
            head: room(wanted.head, vocab * width),
            low_rank: room(wanted.low_rank, vocab * rank),
            bias: room(wanted.bias, vocab),
        }
    }

    /// Adds what the tokens of a chunk, of which `first` is the first, give by the derivatives of their logits before bias and cap.
    pub fn add(&mut self, head: Head<'_>, first: usize, chunk: Chunk<'_>, d_logits: &[f32]) {
        let (vocab, all) = (head.matrix.rows, head.width());
        let count = d_logits.len() / vocab;
        let matrix = Matrix::dense(Elements::F32(d_logits), count, vocab);
        if self.wanted.hidden {
            head.pull(matrix, &mut self.hidden[first * all..][..count * all]);
        }
        if self.wanted.head {
            multiply_parallel(&mut self.head, matrix.transposed(), chunk.wide, Store::Add, head.precision);
        }
        if self.wanted.low_rank {
            multiply_parallel(&mut self.low_rank, matrix.transposed(), chunk.narrow, Store::Add, Precision::F32);
        }
        if self.wanted.bias {
            add_rows(&mut self.bias, d_logits);
        }
    }

    /// Of hidden states, matrix, low-rank part and bias.
    pub fn finish(self) -> [Option<FlexTensor>; 4] {
        let [tokens, width, rank, vocab] = self.sizes;
        let Wanted { hidden, head, low_rank, bias } = self.wanted;
        [
            hidden.then(|| tensor(self.hidden, [tokens, width + rank])),
            head.then(|| tensor(self.head, [vocab, width])),
            low_rank.then(|| tensor(self.low_rank, [vocab, rank])),
            bias.then(|| tensor(self.bias, [vocab])),
        ]
    }
}

/// The loss, and the gradients of hidden states, matrix, low-rank part and bias for a gradient of one on the loss.
pub(super) struct Loss {
    pub sum: FlexTensor,
    /// Cross-entropy and the squared log-sum-exp, `[2]`.
    pub parts: FlexTensor,
    pub derivatives: [Option<FlexTensor>; 4],
}

/// The forward pass, with the gradients that are wanted.
#[allow(clippy::too_many_arguments)] // Those of the operation.
pub(super) fn cross_entropy(
    hidden: FlexTensor,
    head: Head<'_>,
    bias: FlexTensor,
    targets: &FlexTensor,
    weights: FlexTensor,
    softcap: Option<f64>,
    terms: Regularisation,
    wanted: Wanted,
) -> Loss {
    operation!("cross_entropy");
    let [hidden, bias, weights] = [hidden, bias, weights].map(dense);
    let (bias, weights) = (values(&bias), values(&weights));
    let vocab = head.matrix.rows;
    let targets = checked_targets(targets, vocab);
    let tokens = targets.len();
    let cap = softcap.map(|cap| cap as f32);
    let mut derivatives = Derivatives::zeros(wanted, tokens, head);
    let terms = rows::Terms::new(terms, vocab);
    let mut losses = vec![rows::TokenLoss::default(); tokens];

    for_each_chunk(values(&hidden), head, |first, chunk, logits| {
        let count = logits.len() / vocab;
        let work = |((row, loss), token): ((&mut [f32], &mut rows::TokenLoss), usize)| {
            vectorised(
                #[inline(always)]
                || {
                    rows::finish(row, bias, cap);
                    let (target, weight) = (targets[token], weights[token]);
                    let log_sum = rows::log_sum_exp(row);
                    *loss = rows::loss(row, log_sum, target, weight, terms);
                    if wanted.any() {
                        rows::derive(row, log_sum, target, weight, cap, terms);
                    }
                },
            );
        };
        let losses = &mut losses[first..first + count];
        logits.par_chunks_mut(vocab).zip(losses).zip(first..first + count).for_each(work);
        derivatives.add(head, first, chunk, logits);
    });
    let sum = |part: fn(&rows::TokenLoss) -> f32| losses.iter().map(|loss| f64::from(part(loss))).sum::<f64>() as f32;
    Loss {
        sum: tensor(vec![sum(|loss| loss.all)], [1]),
        parts: tensor(vec![sum(|loss| loss.cross_entropy), sum(|loss| loss.squared_log_sum)], [2]),
        derivatives: derivatives.finish(),
    }
}

impl Wanted {
    /// Whether anything is wanted.
    pub fn any(self) -> bool {
        self.hidden || self.head || self.low_rank || self.bias
    }
}

/// `[W B]`; `B` may have no columns.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    matrix: Matrix<'a>,
    low_rank: Matrix<'a>,
    precision: Precision,
}

/// Hidden states of some tokens, the columns for `W` and those for `B`.
#[derive(Clone, Copy)]
pub(crate) struct Chunk<'a> {
    wide: Matrix<'a>,
    narrow: Matrix<'a>,
}

impl<'a> Head<'a> {
    pub fn new(head: &'a FlexTensor, low_rank: &'a FlexTensor, precision: Precision) -> Self {
        Self { matrix: matrix(head), low_rank: matrix(low_rank), precision }
    }

    /// Tokens in the vocabulary.
    pub fn vocab(self) -> usize {
        self.matrix.rows
    }

    /// Columns of the hidden states.
    pub fn width(self) -> usize {
        self.matrix.columns + self.low_rank.columns
    }

    /// The logits of a chunk.
    pub fn push(self, chunk: Chunk<'_>, logits: &mut [f32]) {
        multiply_parallel(logits, chunk.wide, self.matrix.transposed(), Store::Replace, self.precision);
        if self.low_rank.columns > 0 {
            multiply_parallel(logits, chunk.narrow, self.low_rank.transposed(), Store::Add, Precision::F32);
        }
    }

    /// The gradient of the hidden states from that of the logits.
    fn pull(self, d_logits: Matrix<'_>, d_hidden: &mut [f32]) {
        let (width, rank, count) = (self.matrix.columns, self.low_rank.columns, d_logits.rows);
        if rank == 0 {
            return multiply_parallel(d_hidden, d_logits, self.matrix, Store::Replace, self.precision);
        }
        let (mut wide, mut narrow) = (vec![0.0; count * width], vec![0.0; count * rank]);
        multiply_parallel(&mut wide, d_logits, self.matrix, Store::Replace, self.precision);
        multiply_parallel(&mut narrow, d_logits, self.low_rank, Store::Replace, Precision::F32);
        let rows = wide.chunks_exact(width).zip(narrow.chunks_exact(rank));
        for (row, (wide, narrow)) in d_hidden.chunks_exact_mut(width + rank).zip(rows) {
            row[..width].copy_from_slice(wide);
            row[width..].copy_from_slice(narrow);
        }
    }

    /// Columns of `count` rows of `hidden`.
    pub fn chunk(self, hidden: &[f32], count: usize) -> Chunk<'_> {
        let (width, all) = (self.matrix.columns, self.width());
        let part = |start: usize, columns: usize| Matrix {
            elements: Elements::F32(&hidden[start..]),
            rows: count,
            columns,
            row_stride: all,
            column_stride: 1,
        };
        Chunk { wide: part(0, width), narrow: part(width.min(hidden.len()), self.low_rank.columns) }
    }
}

/// Calls `work` with the first token of a chunk, its hidden states and its logits `[count, vocab]`, in order.
fn for_each_chunk(hidden: &[f32], head: Head<'_>, mut work: impl FnMut(usize, Chunk<'_>, &mut [f32])) {
    let (vocab, width) = (head.matrix.rows, head.width());
    if vocab == 0 || width == 0 || hidden.is_empty() {
        return;
    }
    let size = chunk_size(hidden.len() / width, vocab, 1);
    let mut logits = vec![0.0; size * vocab];
    for (index, chunk) in hidden.chunks(size * width).enumerate() {
        let count = chunk.len() / width;
        let chunk = head.chunk(chunk, count);
        let logits = &mut logits[..count * vocab];
        head.push(chunk, logits);
        work(index * size, chunk, logits);
    }
}

/// What `find` makes of the logits of each token and its target. It is called in code for wide registers.
pub(super) fn each_token<T: Send + Default>(
    hidden: FlexTensor,
    head: Head<'_>,
    bias: FlexTensor,
    targets: &FlexTensor,
    softcap: Option<f64>,
    find: impl Fn(&[f32], usize) -> T + Sync,
) -> Vec<T> {
    let [hidden, bias] = [hidden, bias].map(dense);
    let (bias, cap) = (values(&bias), softcap.map(|cap| cap as f32));
    let vocab = head.matrix.rows;
    let targets = checked_targets(targets, vocab);
    let mut found: Vec<T> = targets.iter().map(|_| T::default()).collect();
    for_each_chunk(values(&hidden), head, |first, _, logits| {
        let found = found[first..].par_iter_mut().zip(&targets[first..]);
        logits.par_chunks_mut(vocab).zip(found).for_each(|(row, (found, target))| {
            vectorised(
                #[inline(always)]
                || {
                    rows::finish(row, bias, cap);
                    *found = find(row, *target);
                },
            );
        });
    });
    found
}

/// Tokens of a chunk, of at least one token in all, where logits of so many heads share the room. Even chunks: the last one packs the head
/// as well.
pub(crate) fn chunk_size(tokens: usize, vocab: usize, heads: usize) -> usize {
    let most = (CHUNK / vocab / heads).clamp(LEAST_TOKENS / heads, MOST_TOKENS).min(tokens);
    tokens.div_ceil(tokens.div_ceil(most))
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

/// Targets that are in the vocabulary.
pub(crate) fn checked_targets(targets: &FlexTensor, vocab: usize) -> Vec<usize> {
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
        low_rank: FlexTensor,
        bias: FlexTensor,
        targets: FlexTensor,
        weights: FlexTensor,
        softcap: Option<f64>,
        terms: Regularisation,
        precision: Precision,
    ) -> (FlexTensor, FlexTensor) {
        let nothing = Wanted { hidden: false, head: false, low_rank: false, bias: false };
        let head = Head::new(&head, &low_rank, precision);
        let Loss { sum, parts, .. } = cross_entropy(hidden, head, bias, &targets, weights, softcap, terms, nothing);
        (sum, parts)
    }

    fn fused_token_statistics(
        hidden: FlexTensor,
        head: FlexTensor,
        low_rank: FlexTensor,
        bias: FlexTensor,
        targets: FlexTensor,
        softcap: Option<f64>,
        precision: Precision,
    ) -> (FlexTensor, FlexTensor) {
        operation!("token_statistics");
        let (dtype, head) = (targets.dtype(), Head::new(&head, &low_rank, precision));
        let found = each_token(
            hidden,
            head,
            bias,
            &targets,
            softcap,
            #[inline(always)]
            |row, target| (row[target] - rows::log_sum_exp(row), rows::first_maximum(row)),
        );
        let log_probabilities = found.iter().map(|found| found.0).collect();
        let most_likely = found.iter().map(|found| found.1);
        let most_likely = match dtype {
            DType::I32 => Bytes::from_elems(most_likely.map(|index| index as i32).collect::<Vec<_>>()),
            _ => Bytes::from_elems(most_likely.map(|index| index as i64).collect::<Vec<_>>()),
        };
        let layout = Layout::contiguous(Shape::from([found.len()]));
        (tensor(log_probabilities, [found.len()]), FlexTensor::new(most_likely, layout, dtype))
    }
}
