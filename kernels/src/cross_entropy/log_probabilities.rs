//! The log-probability of each target, to be derived token by token: [`linear_log_probabilities`].
//!
//! What becomes of the numbers is not known while they are computed: preference objectives add up those of an answer and put the sums
//! into a formula. So nothing of the logits is kept, and the backward pass computes them again, a chunk at a time, with the gradient of
//! each token's number: one more product with the head, and no `[tokens, vocab]` array. The derivative of `log p_i` times `g_i` is that
//! of the cross-entropy with the weight `-g_i`.

use super::{
    HeadWeight, Regularisation, assert_head, bias_or_zeros, composed_log_probabilities,
    fused::{Head, Loss, Wanted, cross_entropy, each_token},
    low_rank_or_nothing, rows,
};
use crate::{
    flex::{dense, has_fused, tensor},
    precision::Precision,
    work::operation,
};
use burn::{
    backend::{
        Autodiff, Backend, Dispatch, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        ops::FloatTensorOps,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Int, Tensor},
};
use burn_flex::FlexTensor;

/// `log softmax(softcap(hidden_i [W B]^T + bias))[targets_i]`, of shape `[tokens]`.
///
/// Arguments as in [`super::linear_cross_entropy`]. What is frozen has no gradient computed.
///
/// # Panics
/// When the shapes do not fit together or a target is not in the vocabulary.
pub fn linear_log_probabilities(
    hidden: Tensor<2>,
    head: impl Into<HeadWeight>,
    bias: Option<Tensor<1>>,
    targets: Tensor<1, Int>,
    softcap: Option<f64>,
) -> Tensor<1> {
    let head = head.into();
    assert_head(&hidden, &head, bias.as_ref());
    assert_eq!(hidden.dims()[0], targets.dims()[0], "one target a token");
    if !has_fused(&hidden.device()) {
        return composed_log_probabilities(hidden, head, bias, targets, softcap);
    }
    let bias = bias_or_zeros(&head.matrix, bias);
    let low_rank = low_rank_or_nothing(&head);
    Tensor::from_dispatch(<Dispatch as LogProbabilityBackend>::fused_log_probabilities(
        hidden.into_dispatch(),
        head.matrix.into_dispatch(),
        low_rank.into_dispatch(),
        bias.into_dispatch(),
        targets.into_dispatch(),
        softcap,
        head.precision,
    ))
}

/// Backends with a fused [`linear_log_probabilities`].
#[backend_extension(Flex, Autodiff)]
pub trait LogProbabilityBackend: Backend {
    /// See [`linear_log_probabilities`].
    fn fused_log_probabilities(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        low_rank: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f64>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

impl LogProbabilityBackend for Flex {
    fn fused_log_probabilities(
        hidden: FlexTensor,
        head: FlexTensor,
        low_rank: FlexTensor,
        bias: FlexTensor,
        targets: FlexTensor,
        softcap: Option<f64>,
        precision: Precision,
    ) -> FlexTensor {
        operation!("log_probabilities");
        let found = each_token(
            hidden,
            Head::new(&head, &low_rank, precision),
            bias,
            &targets,
            softcap,
            #[inline(always)]
            |row, target| row[target] - rows::log_sum_exp(row),
        );
        let tokens = found.len();
        tensor(found, [tokens])
    }
}

#[derive(Debug)]
struct LogProbabilitiesBackward;

/// What the logits are computed from.
#[derive(Debug, Clone)]
struct State {
    hidden: FlexTensor,
    head: FlexTensor,
    low_rank: FlexTensor,
    bias: FlexTensor,
    targets: FlexTensor,
    softcap: Option<f64>,
    precision: Precision,
    wanted: Wanted,
}

impl Backward<Flex, 4> for LogProbabilitiesBackward {
    type State = State;

    fn backward(self, ops: Ops<State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("log_probabilities backward");
        let weights = dense(Flex::float_neg(grads.consume::<Flex>(&ops.node)));
        let State { hidden, head, low_rank, bias, targets, softcap, precision, wanted } = ops.state;
        let head = Head::new(&head, &low_rank, precision);
        let plain = Regularisation::default();
        let Loss { derivatives, .. } = cross_entropy(hidden, head, bias, &targets, weights, softcap, plain, wanted);
        for (node, derivative) in ops.parents.into_iter().zip(derivatives) {
            if let (Some(node), Some(derivative)) = (node, derivative) {
                grads.register::<Flex>(node.id, derivative);
            }
        }
    }
}

impl<C: CheckpointStrategy> LogProbabilityBackend for Autodiff<Flex, C> {
    fn fused_log_probabilities(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        low_rank: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f64>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let wanted = Wanted {
            hidden: hidden.is_tracked(),
            head: head.is_tracked(),
            low_rank: low_rank.is_tracked(),
            bias: bias.is_tracked(),
        };
        let [(hidden, hidden_node), (head, head_node), (low_rank, low_rank_node), (bias, bias_node)] =
            [hidden, head, low_rank, bias].map(|input| input.into_parts());
        assert!(!wanted.head || head.dtype() == DType::F32, "a head in {:?} must be frozen", head.dtype());
        let inputs = [&hidden, &head, &low_rank, &bias].map(FlexTensor::clone);
        let [hidden_now, head_now, low_rank_now, bias_now] = inputs;
        let found = Flex::fused_log_probabilities(
            hidden_now,
            head_now,
            low_rank_now,
            bias_now,
            targets.clone(),
            softcap,
            precision,
        );
        let nodes = [hidden_node, head_node, low_rank_node, bias_node];
        match LogProbabilitiesBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = State { hidden, head, low_rank, bias, targets, softcap, precision, wanted };
                prep.finish(state, found)
            }
            OpsKind::UnTracked(prep) => prep.finish(found),
        }
    }
}

#[cfg(test)]
mod tests;
