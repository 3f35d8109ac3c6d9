//! Head and cross-entropy in plain Burn operations, for some tokens at a time: what runs on devices without the fused form.
//!
//! A loss is one number, so its gradient is known up to a factor once the forward pass is done. Each chunk of tokens is derived while its
//! logits are at hand, by Burn's autodiff on copies of the inputs; what is kept until the backward pass is the gradient itself. Logits
//! of all tokens never exist together, in either pass.

use burn::tensor::{DType, Int, Tensor};

use super::{HeadWeight, Regularisation, RegularisedLoss, composed_regularised, composed_statistics};
use crate::portable::sum;

/// [`super::regularised_cross_entropy`] for `size` tokens at a time, at least one.
#[allow(clippy::too_many_arguments)] // Those of the operation, and a size.
pub fn regularised(
    hidden: Tensor<2>,
    head: HeadWeight,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    softcap: Option<f64>,
    terms: Regularisation,
    size: usize,
) -> RegularisedLoss {
    let tokens = hidden.dims()[0];
    if tokens <= size {
        return composed_regularised(hidden, head, bias, targets, weights, softcap, terms);
    }
    let head = HeadWeight { matrix: head.matrix.cast(DType::F32), ..head };
    let mut of_hidden = Vec::new();
    let [mut of_matrix, mut of_low_rank] = [None, None];
    let mut of_bias = None;
    let mut total: Option<RegularisedLoss> = None;
    for start in (0..tokens).step_by(size) {
        let count = size.min(tokens - start);
        let chunk = copy(&hidden, |hidden| hidden.narrow(0, start, count));
        let matrix = copy(&head.matrix, |whole| whole);
        let low_rank = head.low_rank.as_ref().map(|low_rank| copy(low_rank, |whole| whole));
        let bias = bias.as_ref().map(|bias| copy(bias, |whole| whole));
        let loss = composed_regularised(
            chunk.clone(),
            HeadWeight { matrix: matrix.clone(), low_rank: low_rank.clone(), precision: head.precision },
            bias.clone(),
            targets.clone().narrow(0, start, count),
            weights.clone().narrow(0, start, count),
            softcap,
            terms,
        );
        if loss.loss.is_tracked() {
            let gradients = loss.loss.clone().backward();
            of_hidden.extend(chunk.grad(&gradients));
            add(&mut of_matrix, matrix.grad(&gradients));
            add(&mut of_low_rank, low_rank.and_then(|low_rank| low_rank.grad(&gradients)));
            add(&mut of_bias, bias.and_then(|bias| bias.grad(&gradients)));
        }
        let loss = loss.map(Tensor::detach);
        total = Some(match total {
            None => loss,
            Some(before) => RegularisedLoss {
                loss: before.loss + loss.loss,
                cross_entropy: before.cross_entropy + loss.cross_entropy,
                squared_log_sum: before.squared_log_sum + loss.squared_log_sum,
            },
        });
    }
    let Some(mut total) = total else {
        return composed_regularised(hidden, head, bias, targets, weights, softcap, terms);
    };
    let of_hidden = (!of_hidden.is_empty()).then(|| Tensor::cat(of_hidden, 0));
    total.loss = with_gradient(total.loss, Some(&hidden), of_hidden);
    total.loss = with_gradient(total.loss, Some(&head.matrix), of_matrix);
    total.loss = with_gradient(total.loss, head.low_rank.as_ref(), of_low_rank);
    total.loss = with_gradient(total.loss, bias.as_ref(), of_bias);
    total
}

/// [`super::token_statistics`] for `size` tokens at a time, at least one.
pub fn statistics(
    hidden: Tensor<2>,
    head: HeadWeight,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    softcap: Option<f64>,
    size: usize,
) -> (Tensor<1>, Tensor<1, Int>) {
    let tokens = hidden.dims()[0];
    if tokens <= size {
        return composed_statistics(hidden, head, bias, targets, softcap);
    }
    let (log_probabilities, most_likely) = (0..tokens)
        .step_by(size)
        .map(|start| {
            let count = size.min(tokens - start);
            let (hidden, targets) = (hidden.clone().narrow(0, start, count), targets.clone().narrow(0, start, count));
            composed_statistics(hidden, head.clone(), bias.clone(), targets, softcap)
        })
        .unzip();
    (Tensor::cat(log_probabilities, 0), Tensor::cat(most_likely, 0))
}

/// A part of a tensor with a graph of its own, which is derived if the tensor is.
fn copy<const D: usize>(tensor: &Tensor<D>, part: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Tensor<D> {
    let copy = part(tensor.clone().detach()).detach();
    if tensor.is_tracked() { copy.require_grad() } else { copy }
}

fn add<const D: usize>(sum: &mut Option<Tensor<D>>, more: Option<Tensor<D>>) {
    *sum = match (sum.take(), more) {
        (Some(sum), Some(more)) => Some(sum + more),
        (sum, more) => sum.or(more),
    };
}

/// The same value, whose gradient for `input` is known. The term that is added is zero, and its gradient is not.
fn with_gradient<const D: usize>(
    value: Tensor<1>,
    input: Option<&Tensor<D>>,
    gradient: Option<Tensor<D>>,
) -> Tensor<1> {
    let (Some(input), Some(gradient)) = (input, gradient) else { return value };
    let term = sum(input.clone() * Tensor::from_inner(gradient));
    value + term.clone() - term.detach()
}
