//! Attention on the CPU, with and without autodiff. Between the passes it keeps its operands, its output and a number a query and head.

use super::{
    AttentionBackend, AttentionOptions, Segments,
    backward::{Results, backward},
    forward::forward,
    problem::{Operands, Problem},
};
use crate::flex::{dense, tensor, values};
use burn::backend::{
    Autodiff, Backend, Flex,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};
use burn_flex::FlexTensor;
use std::sync::Arc;

impl AttentionBackend for Flex {
    fn fused_attention(
        q: FlexTensor,
        k: FlexTensor,
        v: FlexTensor,
        segments: Segments<Flex>,
        options: AttentionOptions,
    ) -> FlexTensor {
        let operands = Operands::new([q, k, v], pair(segments), options);
        let problem = Problem::new(&operands);
        let (out, _) = forward(&problem);
        tensor(out, [problem.batch, problem.queries, problem.heads, problem.value_dim])
    }
}

fn pair<B: Backend<IntTensorPrimitive = FlexTensor>>(segments: Segments<B>) -> Option<[FlexTensor; 2]> {
    match segments {
        Segments::One => None,
        Segments::Packed { queries, keys } => Some([queries, keys]),
    }
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Clone, Debug)]
struct AttentionState {
    operands: Operands,
    out: FlexTensor,
    log_sums: Arc<Vec<f32>>,
}

impl Backward<Flex, 3> for AttentionBackward {
    type State = AttentionState;

    fn backward(self, ops: Ops<AttentionState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let AttentionState { operands, out, log_sums } = ops.state;
        let problem = Problem::new(&operands);
        let results = Results { out: values(&out), log_sums: &log_sums, grad: values(&grad) };
        let derivatives = backward(&problem, &results);
        let Problem { batch, queries, keys, heads, groups, head_dim, value_dim, .. } = problem;
        let shapes =
            [[batch, queries, heads, head_dim], [batch, keys, groups, head_dim], [batch, keys, groups, value_dim]];
        for ((node, derivative), shape) in ops.parents.into_iter().zip(derivatives).zip(shapes) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(derivative, shape));
            }
        }
    }
}

impl<C: CheckpointStrategy> AttentionBackend for Autodiff<Flex, C> {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: Segments<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        let [(q, q_node), (k, k_node), (v, v_node)] = [q.into_parts(), k.into_parts(), v.into_parts()];
        let operands = Operands::new([q, k, v], pair(segments), options);
        let problem = Problem::new(&operands);
        let (out, log_sums) = forward(&problem);
        let out = tensor(out, [problem.batch, problem.queries, problem.heads, problem.value_dim]);
        match AttentionBackward.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let state = AttentionState { operands, out: out.clone(), log_sums: Arc::new(log_sums) };
                prep.finish(state, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
