//! Head and cross-entropy in plain Burn operations: the meaning of the fused form. It holds `[tokens, vocab]`.

use burn::tensor::{DType, Int, Tensor, activation::log_softmax};

use super::{HeadWeight, Regularisation, RegularisedLoss};
use crate::{
    portable::{multiply, sum},
    precision::Precision,
};

/// [`super::linear_cross_entropy`] in plain Burn operations.
pub fn composed(
    hidden: Tensor<2>,
    head: impl Into<HeadWeight>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    softcap: Option<f64>,
) -> Tensor<1> {
    composed_regularised(hidden, head, bias, targets, weights, softcap, Regularisation::default()).loss
}

/// [`super::regularised_cross_entropy`] in plain Burn operations.
pub fn composed_regularised(
    hidden: Tensor<2>,
    head: impl Into<HeadWeight>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    softcap: Option<f64>,
    terms: Regularisation,
) -> RegularisedLoss {
    let Regularisation { label_smoothing, z_loss } = terms;
    let logits = logits(hidden, head.into(), bias, softcap);
    let log_probabilities = log_softmax(logits.clone(), 1);
    let of_targets = log_probabilities.clone().gather(1, targets.unsqueeze_dim::<2>(1)).squeeze_dim::<1>(1);
    let cross_entropy = sum(of_targets * weights.clone()).neg();
    let mut loss = cross_entropy.clone();
    let mut squared_log_sum = loss.zeros_like();
    if label_smoothing > 0.0 {
        let of_all = sum(log_probabilities.mean_dim(1).squeeze_dim::<1>(1) * weights.clone()).neg();
        loss = loss * (1.0 - label_smoothing) + of_all * label_smoothing;
    }
    if z_loss > 0.0 {
        let largest = logits.clone().detach().max_dim(1);
        let log_sums = (logits - largest.clone()).exp().sum_dim(1).log() + largest;
        squared_log_sum = sum(log_sums.squeeze_dim::<1>(1).powi_scalar(2) * weights);
        loss = loss + squared_log_sum.clone() * z_loss;
    }
    let [cross_entropy, squared_log_sum] = [cross_entropy, squared_log_sum].map(Tensor::detach);
    RegularisedLoss { loss, cross_entropy, squared_log_sum }
}

/// [`super::linear_log_probabilities`] in plain Burn operations.
pub fn composed_log_probabilities(
    hidden: Tensor<2>,
    head: impl Into<HeadWeight>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    softcap: Option<f64>,
) -> Tensor<1> {
    let log_probabilities = log_softmax(logits(hidden, head.into(), bias, softcap), 1);
    log_probabilities.gather(1, targets.unsqueeze_dim::<2>(1)).squeeze_dim::<1>(1)
}

/// [`super::token_statistics`] in plain Burn operations.
pub fn composed_statistics(
    hidden: Tensor<2>,
    head: impl Into<HeadWeight>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    softcap: Option<f64>,
) -> (Tensor<1>, Tensor<1, Int>) {
    let logits = logits(hidden, head.into(), bias, softcap).detach();
    let most_likely = logits.clone().argmax(1).squeeze_dim::<1>(1);
    let log_probabilities = log_softmax(logits, 1);
    let of_targets = log_probabilities.gather(1, targets.unsqueeze_dim::<2>(1)).squeeze_dim::<1>(1);
    (of_targets, most_likely)
}

/// The logits of all tokens, `[tokens, vocab]`.
pub(crate) fn logits(hidden: Tensor<2>, head: HeadWeight, bias: Option<Tensor<1>>, softcap: Option<f64>) -> Tensor<2> {
    let HeadWeight { matrix, low_rank, precision } = head;
    let width = matrix.dims()[1];
    let products = match low_rank {
        Some(low_rank) => {
            let [tokens, all] = hidden.dims();
            let columns = |from: usize, to: usize| hidden.clone().slice([0..tokens, from..to]);
            let wide = multiply(precision.round(columns(0, width)), precision.round(matrix).transpose(), precision);
            wide + multiply(columns(width, all), low_rank.transpose(), Precision::F32)
        }
        None => multiply(precision.round(hidden), precision.round(matrix).transpose(), precision),
    };
    let logits = match bias {
        Some(bias) => products + bias.cast(DType::F32).unsqueeze::<2>(),
        None => products,
    };
    match softcap {
        Some(cap) => logits.div_scalar(cap).tanh().mul_scalar(cap),
        None => logits,
    }
}
