//! The backward pass of head and cross-entropy: what the forward pass computed, times the gradient of the loss.

use super::{
    CrossEntropyBackend, Regularisation,
    fused::{Head, Loss, Wanted, cross_entropy},
};
use crate::precision::Precision;
use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        ops::FloatTensorOps,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::DType,
};
use burn_flex::FlexTensor;

/// The backward pass of an operation whose forward pass computed its derivatives.
#[derive(Debug)]
pub(crate) struct ScaleDerivatives;

impl Backward<Flex, 4> for ScaleDerivatives {
    type State = [Option<FlexTensor>; 4];

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        for (node, derivative) in ops.parents.into_iter().zip(ops.state) {
            if let (Some(node), Some(derivative)) = (node, derivative) {
                let scale = Flex::float_reshape(grad.clone(), vec![1; derivative.layout().num_dims()].into());
                grads.register::<Flex>(node.id, Flex::float_mul(derivative, scale));
            }
        }
    }
}

impl<C: CheckpointStrategy> CrossEntropyBackend for Autodiff<Flex, C> {
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
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let wanted = Wanted {
            hidden: hidden.is_tracked(),
            head: head.is_tracked(),
            low_rank: low_rank.is_tracked(),
            bias: bias.is_tracked(),
        };
        let [(hidden, hidden_node), (head, head_node), (low_rank, low_rank_node), (bias, bias_node)] =
            [hidden, head, low_rank, bias].map(|input| input.into_parts());
        assert!(!wanted.head || head.dtype() == DType::F32, "a head in {:?} must be frozen", head.dtype());
        let weights = weights.into_primitive();
        let Loss { sum, parts, derivatives } = cross_entropy(
            hidden,
            Head::new(&head, &low_rank, precision),
            bias,
            &targets,
            weights,
            softcap,
            terms,
            wanted,
        );
        let nodes = [hidden_node, head_node, low_rank_node, bias_node];
        let loss = match ScaleDerivatives.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(derivatives, sum),
            OpsKind::UnTracked(prep) => prep.finish(sum),
        };
        (loss, FloatTensor::<Self>::new(parts))
    }

    fn fused_token_statistics(
        hidden: FloatTensor<Self>,
        head: FloatTensor<Self>,
        low_rank: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f64>,
        precision: Precision,
    ) -> (FloatTensor<Self>, IntTensor<Self>) {
        let [hidden, head, low_rank, bias] = [hidden, head, low_rank, bias].map(|input| input.into_primitive());
        let (log_probabilities, most_likely) =
            Flex::fused_token_statistics(hidden, head, low_rank, bias, targets, softcap, precision);
        (FloatTensor::<Self>::new(log_probabilities), most_likely)
    }
}
