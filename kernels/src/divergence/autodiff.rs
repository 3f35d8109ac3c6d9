//! The backward pass of [`super::linear_distillation`]: what the forward pass computed, times the gradient of the loss.

use super::{
    DivergenceBackend, HeadRows, Settings, TeacherRows,
    fused::{Outcome, distillation},
};
use crate::cross_entropy::{ScaleDerivatives, Wanted};
use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::strategy::CheckpointStrategy,
            ops::{Backward, OpsKind},
        },
        tensor::{FloatTensor, IntTensor},
    },
    tensor::DType,
};

impl<C: CheckpointStrategy> DivergenceBackend for Autodiff<Flex, C> {
    fn fused_distillation(
        student: HeadRows<Self>,
        teacher: TeacherRows<Self>,
        targets: IntTensor<Self>,
        weights: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let HeadRows { hidden, head, low_rank, bias } = student;
        let wanted = Wanted {
            hidden: hidden.is_tracked(),
            head: head.is_tracked(),
            low_rank: low_rank.is_tracked(),
            bias: bias.is_tracked(),
        };
        let [(hidden, hidden_node), (head, head_node), (low_rank, low_rank_node), (bias, bias_node)] =
            [hidden, head, low_rank, bias].map(|input| input.into_parts());
        assert!(!wanted.head || head.dtype() == DType::F32, "a head in {:?} must be frozen", head.dtype());
        let student = HeadRows { hidden, head, low_rank, bias };
        let weights = weights.into_primitive();
        let Outcome { loss, parts, derivatives } =
            distillation(student, plain(teacher), &targets, weights, settings, wanted);
        let nodes = [hidden_node, head_node, low_rank_node, bias_node];
        let loss = match ScaleDerivatives.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(derivatives, loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        (loss, FloatTensor::<Self>::new(parts))
    }
}

/// The teacher without its place on a tape.
fn plain<C: CheckpointStrategy>(teacher: TeacherRows<Autodiff<Flex, C>>) -> TeacherRows<Flex> {
    match teacher {
        TeacherRows::Head { rows: HeadRows { hidden, head, low_rank, bias } } => {
            let [hidden, head, low_rank, bias] = [hidden, head, low_rank, bias].map(|input| input.into_primitive());
            TeacherRows::Head { rows: HeadRows { hidden, head, low_rank, bias } }
        }
        TeacherRows::Cells { ids, log_probabilities, others } => TeacherRows::Cells {
            ids,
            log_probabilities: log_probabilities.into_primitive(),
            others: others.into_primitive(),
        },
    }
}
