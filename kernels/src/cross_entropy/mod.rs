//! The language-model head and its loss as one operation, so that the logits of all tokens never exist together.
//!
//! The gradient is computed in the forward pass, while a chunk's logits are at hand, as in Cut Your Losses (Wijmans et al. 2024,
//! arXiv:2411.09009) and Liger Kernel (Hsu et al. 2024, arXiv:2410.10989); the backward pass only scales it. So only one number may
//! be derived: the sum, not one loss a token. Where each token's log-probability is derived by itself, as in losses of whole answers,
//! [`linear_log_probabilities`] computes the logits again in the backward pass. Not here: ignored labels (leave those tokens out).
//!
//! [`regularised_cross_entropy`] has two more terms. Label smoothing (Szegedy et al. 2016, arXiv:1512.00567) by `e` takes the
//! distribution `(1 - e) one_hot + e / vocab` for the target, as `torch.nn.functional.cross_entropy` does. The z-loss (Chowdhery
//! et al. 2022, arXiv:2204.02311, section 5) adds `z (log sum exp logits)^2`, which keeps the logits near zero.

mod autodiff;
mod composed;
mod fused;
mod in_chunks;
mod log_probabilities;
mod rows;

pub(crate) use autodiff::ScaleDerivatives;
pub(crate) use composed::logits;
pub(crate) use fused::{Derivatives, Head, Wanted, checked_targets, chunk_size};
pub(crate) use rows::{finish, log_sum_exp};

pub use composed::{composed, composed_log_probabilities, composed_regularised, composed_statistics};
pub use log_probabilities::linear_log_probabilities;

use crate::{flex::has_fused, precision::Precision};
use burn::{
    backend::{
        Backend, Dispatch, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Int, Tensor},
};

/// The matrix `W` of a head, and what an adapter puts beside it: `[W B]`, which is never put together.
#[derive(Debug, Clone)]
pub struct HeadWeight {
    /// `W`, `[vocab, width]` in f32, f16 or bf16 (f32 if trained).
    pub matrix: Tensor<2>,
    /// `B`, `[vocab, rank]` in f32. The hidden states then have `rank` more columns.
    pub low_rank: Option<Tensor<2>>,
    /// In which numbers products with `W` read their operands; those with `B` are in f32. Losses of logits are computed in f32.
    pub precision: Precision,
}

impl From<Tensor<2>> for HeadWeight {
    fn from(matrix: Tensor<2>) -> Self {
        Self { matrix, low_rank: None, precision: Precision::F32 }
    }
}

/// What a loss adds to cross-entropy. Both numbers zero: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Regularisation {
    /// The share `e` of the target that is spread over the whole vocabulary, 0 to below 1.
    pub label_smoothing: f64,
    /// The factor `z` of the squared log-sum-exp of the logits, at least 0.
    pub z_loss: f64,
}

/// A regularised loss and what it is made of, each `[1]`: weighted sums over all tokens.
#[derive(Debug, Clone)]
pub struct RegularisedLoss {
    /// The loss; the only one with a gradient.
    pub loss: Tensor<1>,
    /// Plain cross-entropy.
    pub cross_entropy: Tensor<1>,
    /// The squared log-sum-exp, without its factor; zero where that is zero.
    pub squared_log_sum: Tensor<1>,
}

impl RegularisedLoss {
    fn map(self, each: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        Self {
            loss: each(self.loss),
            cross_entropy: each(self.cross_entropy),
            squared_log_sum: each(self.squared_log_sum),
        }
    }
}

/// `sum_i weights[i] * -log softmax(softcap(hidden_i [W B]^T + bias))[targets_i]`, of shape `[1]`.
///
/// `hidden` is `[tokens, width + rank]` in f32, `bias` `[vocab]` in f32, f16 or bf16 (f32 if trained), `targets` `[tokens]` in `0..vocab`,
/// `weights` `[tokens]` in f32 and constant. `softcap` `c` replaces a logit by `c * tanh(logit / c)`. What is frozen of the head has no
/// gradient computed.
///
/// # Panics
/// When the shapes do not fit together or a target is not in the vocabulary.
pub fn linear_cross_entropy(
    hidden: Tensor<2>,
    head: impl Into<HeadWeight>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    softcap: Option<f64>,
) -> Tensor<1> {
    regularised_cross_entropy(hidden, head, bias, targets, weights, softcap, Regularisation::default()).loss
}

/// [`linear_cross_entropy`] with the terms of `terms` added for each token, times its weight.
///
/// # Panics
/// As [`linear_cross_entropy`].
pub fn regularised_cross_entropy(
    hidden: Tensor<2>,
    head: impl Into<HeadWeight>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    softcap: Option<f64>,
    terms: Regularisation,
) -> RegularisedLoss {
    let head = head.into();
    assert_head(&hidden, &head, bias.as_ref());
    assert_eq!([hidden.dims()[0]; 2], [targets.dims()[0], weights.dims()[0]], "one target and one weight a token");
    if !has_fused(&hidden.device()) {
        let size = chunk_of(&hidden, &head);
        return in_chunks::regularised(hidden, head, bias, targets, weights, softcap, terms, size);
    }
    let bias = bias_or_zeros(&head.matrix, bias);
    let low_rank = low_rank_or_nothing(&head);
    let (loss, parts) = <Dispatch as CrossEntropyBackend>::fused_cross_entropy(
        hidden.into_dispatch(),
        head.matrix.into_dispatch(),
        low_rank.into_dispatch(),
        bias.into_dispatch(),
        targets.into_dispatch(),
        weights.into_dispatch(),
        softcap,
        terms,
        head.precision,
    );
    let parts: Tensor<1> = Tensor::from_dispatch(parts);
    RegularisedLoss {
        loss: Tensor::from_dispatch(loss),
        cross_entropy: parts.clone().narrow(0, 0, 1),
        squared_log_sum: parts.narrow(0, 1, 1),
    }
}

/// The log-probability of each target `[tokens]` and the most likely token `[tokens]`; the first one of equals.
///
/// Arguments as in [`linear_cross_entropy`]. For inference: no gradient flows.
pub fn token_statistics(
    hidden: Tensor<2>,
    head: impl Into<HeadWeight>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    softcap: Option<f64>,
) -> (Tensor<1>, Tensor<1, Int>) {
    let head = head.into();
    assert_head(&hidden, &head, bias.as_ref());
    assert_eq!(hidden.dims()[0], targets.dims()[0], "one target a token");
    if !has_fused(&hidden.device()) {
        let size = chunk_of(&hidden, &head);
        return in_chunks::statistics(hidden, head, bias, targets, softcap, size);
    }
    let bias = bias_or_zeros(&head.matrix, bias);
    let low_rank = low_rank_or_nothing(&head);
    let (log_probabilities, most_likely) = <Dispatch as CrossEntropyBackend>::fused_token_statistics(
        hidden.into_dispatch(),
        head.matrix.into_dispatch(),
        low_rank.into_dispatch(),
        bias.into_dispatch(),
        targets.into_dispatch(),
        softcap,
        head.precision,
    );
    (Tensor::from_dispatch(log_probabilities), Tensor::from_dispatch(most_likely))
}

/// Tokens whose logits exist at once.
fn chunk_of(hidden: &Tensor<2>, head: &HeadWeight) -> usize {
    chunk_size(hidden.dims()[0].max(1), head.matrix.dims()[0].max(1), 1)
}

pub(crate) fn assert_head(hidden: &Tensor<2>, head: &HeadWeight, bias: Option<&Tensor<1>>) {
    let [vocab, width] = head.matrix.dims();
    let [rows, rank] = head.low_rank.as_ref().map_or([vocab, 0], |low_rank| low_rank.dims());
    assert_eq!(hidden.dims()[1], width + rank, "width of the hidden states and of the head");
    assert_eq!(rows, vocab, "one row of the low-rank part a token of the vocabulary");
    if let Some(bias) = bias {
        assert_eq!(bias.dims()[0], vocab, "one bias a token of the vocabulary");
    }
}

/// An absent low-rank part has no columns.
pub(crate) fn low_rank_or_nothing(head: &HeadWeight) -> Tensor<2> {
    let nothing = || Tensor::zeros([head.matrix.dims()[0], 0], &head.matrix.device());
    head.low_rank.clone().unwrap_or_else(nothing)
}

/// An absent bias is zeros that nobody trains: no gradient is computed for them.
pub(crate) fn bias_or_zeros(head: &Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<1> {
    let bias = bias.unwrap_or_else(|| Tensor::zeros([head.dims()[0]], &head.device()));
    bias.cast(DType::F32)
}

/// Backends with a fused [`linear_cross_entropy`] and [`token_statistics`].
#[backend_extension(Flex, Autodiff)]
pub trait CrossEntropyBackend: Backend {
    /// See [`regularised_cross_entropy`]: the loss `[1]`, and `[2]` without a gradient, cross-entropy and squared log-sum.
    #[allow(clippy::too_many_arguments)] // The macro takes tensors one by one.
    fn fused_cross_entropy(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        low_rank: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        softcap: Option<f64>,
        terms: Regularisation,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`token_statistics`].
    fn fused_token_statistics(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        low_rank: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f64>,
        precision: Precision,
    ) -> (FloatTensor<Self>, IntTensor<Self>);
}

#[cfg(test)]
mod tests;
