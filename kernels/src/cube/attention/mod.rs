//! Attention in tiles, on CubeCL's devices: no scores of all pairs, forward or backward. Between the passes it keeps its operands, its
//! output and a number a query and head.
//!
//! ```text
//! tile.rs      scores of 32 queries and 32 keys
//! forward.rs   outputs
//! backward.rs  gradients
//! ```
//!
//! Not here: [`Alibi::Bf16`], whose biases are a table ([`is_there`] says so).

mod backward;
mod forward;
mod tile;

use burn::{
    backend::{
        Autodiff, Backend,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        ops::{FloatTensorOps, IntTensorOps},
        tensor::FloatTensor,
    },
    tensor::{IntDType, Shape, TensorData},
};
use burn_cubecl::{CubeBackend, cubecl::prelude::*, kernel::into_contiguous, tensor::CubeTensor};

use super::launch::{dense, units, unwritten};
use crate::attention::{Alibi, AttentionBackend, AttentionOptions, Segments, Sight};
use backward::PER_ROW;
use tile::{Form, SIDE, SizesLaunch, TILE};

/// Whether attention with these options has kernels.
pub(crate) fn is_there(options: &AttentionOptions) -> bool {
    !matches!(options.alibi, Some(Alibi::Bf16 { .. }))
}

/// Dense operands of a call.
#[derive(Clone, Debug)]
struct Operands {
    q: CubeTensor,
    k: CubeTensor,
    v: CubeTensor,
    /// Of all queries, then of all keys.
    segments: Option<CubeTensor>,
    /// One a head.
    slopes: Option<CubeTensor>,
    options: AttentionOptions,
}

impl Operands {
    fn new<B: Backend<IntTensorPrimitive = CubeTensor>>(
        [q, k, v]: [CubeTensor; 3],
        segments: Segments<B>,
        options: AttentionOptions,
    ) -> Self {
        let [q, k, v] = [q, k, v].map(dense);
        let segments = match segments {
            Segments::One => None,
            Segments::Packed { queries, keys } => {
                let flat = |segments: CubeTensor| {
                    let count = segments.meta.num_elements();
                    CubeBackend::int_cast(CubeBackend::int_reshape(segments, [count].into()), IntDType::I32)
                };
                Some(into_contiguous(CubeBackend::int_cat(vec![flat(queries), flat(keys)], 0)))
            }
        };
        let slopes = options.alibi.as_ref().map(|alibi| {
            let slopes = alibi.slopes().to_vec();
            let count = slopes.len();
            CubeBackend::float_from_data(TensorData::new(slopes, [count]), &q.device)
        });
        Self { q, k, v, segments, slopes, options }
    }

    /// Batch, queries, keys, heads, groups.
    fn sizes(&self) -> [usize; 5] {
        let (of_queries, of_keys) = (self.q.meta.shape(), self.k.meta.shape());
        [of_queries[0], of_queries[1], of_keys[1], of_queries[2], of_keys[2]]
    }

    fn form(&self) -> Form {
        let (causal, windowed) = match self.options.sight {
            Sight::Causal { window } => (true, window.is_some()),
            Sight::Full => (false, false),
        };
        Form {
            causal,
            windowed,
            segmented: self.segments.is_some(),
            capped: self.options.softcap.is_some(),
            biased: self.slopes.is_some(),
            dim: self.q.meta.shape()[3],
            value_dim: self.v.meta.shape()[3],
        }
    }

    fn arguments(&self) -> SizesLaunch {
        let [_, queries, keys, heads, groups] = self.sizes().map(|size| size as u32);
        let window = match self.options.sight {
            Sight::Causal { window: Some(window) } => u32::try_from(window).unwrap_or(u32::MAX / 2),
            Sight::Causal { window: None } | Sight::Full => 0,
        };
        let cap = self.options.softcap.unwrap_or(1.0) as f32;
        SizesLaunch::new(queries, keys, heads, groups, window, self.options.scale as f32, cap)
    }

    /// Segments, or a tensor that kernels without segments never read.
    fn segments(&self) -> CubeTensor {
        self.segments.clone().unwrap_or_else(|| self.q.clone())
    }

    fn slopes(&self) -> CubeTensor {
        self.slopes.clone().unwrap_or_else(|| self.q.clone())
    }

    /// The output, and the log-sum of each query and head.
    fn forward(&self) -> (CubeTensor, CubeTensor) {
        let [batch, queries, _, heads, _] = self.sizes();
        let form = self.form();
        let out = unwritten(&self.q, [batch, queries, heads, form.value_dim]);
        let log_sums = unwritten(&self.q, [batch * queries * heads]);
        if out.meta.num_elements() > 0 {
            forward::forward::launch(
                &self.q.client,
                cubes(queries, heads, batch),
                dim(),
                self.q.clone().into_buffer_arg(),
                self.k.clone().into_buffer_arg(),
                self.v.clone().into_buffer_arg(),
                self.segments().into_buffer_arg(),
                self.slopes().into_buffer_arg(),
                out.clone().into_buffer_arg(),
                log_sums.clone().into_buffer_arg(),
                self.arguments(),
                form,
            );
        }
        (out, log_sums)
    }

    /// The gradients of queries, keys and values.
    fn backward(&self, out: CubeTensor, log_sums: CubeTensor, grad: CubeTensor) -> [CubeTensor; 3] {
        let [batch, queries, keys, heads, groups] = self.sizes();
        let (form, client, grad) = (self.form(), self.q.client.clone(), dense(grad));
        let rows = unwritten(&self.q, [PER_ROW * batch * queries * heads]);
        let d_q = unwritten(&self.q, self.q.meta.shape().clone());
        let (of_keys, of_values) = (self.k.meta.num_elements(), self.v.meta.num_elements());
        let both = unwritten(&self.q, [of_keys + of_values]);
        if batch * queries * heads == 0 {
            return [&self.q, &self.k, &self.v]
                .map(|operand| CubeBackend::float_mul_scalar(operand.clone(), 0.0f32.into()));
        }
        let (count, line) = units(batch * queries * heads);
        backward::per_row::launch(
            &client,
            count,
            line,
            out.into_buffer_arg(),
            grad.clone().into_buffer_arg(),
            log_sums.into_buffer_arg(),
            self.slopes().into_buffer_arg(),
            rows.clone().into_buffer_arg(),
            heads as u32,
            form,
        );
        let inputs =
            || [&self.q, &self.k, &self.v, &grad, &rows, &self.segments()].map(|input| input.clone().into_buffer_arg());
        let [q, k, v, of_grad, of_rows, segments] = inputs();
        let (count, to) = (cubes(queries, heads, batch), d_q.clone().into_buffer_arg());
        backward::of_queries::launch(
            &client,
            count,
            dim(),
            q,
            k,
            v,
            of_grad,
            of_rows,
            segments,
            to,
            self.arguments(),
            form,
        );
        let [q, k, v, of_grad, of_rows, segments] = inputs();
        let (count, to) = (cubes(keys, groups, batch), both.clone().into_buffer_arg());
        backward::of_keys::launch(
            &client,
            count,
            dim(),
            q,
            k,
            v,
            of_grad,
            of_rows,
            segments,
            to,
            self.arguments(),
            form,
        );
        let part = |from: usize, count: usize, shape: &Shape| {
            let part = CubeBackend::float_slice(both.clone(), &[(from..from + count).into()]);
            CubeBackend::float_reshape(part, shape.clone())
        };
        [d_q, part(0, of_keys, self.k.meta.shape()), part(of_keys, of_values, self.v.meta.shape())]
    }
}

/// A cube for 32 of so many positions, a head and a row of the batch.
fn cubes(positions: usize, heads: usize, batch: usize) -> CubeCount {
    CubeCount::Static(positions.div_ceil(TILE) as u32, heads as u32, batch as u32)
}

fn dim() -> CubeDim {
    CubeDim::new_2d(SIDE as u32, SIDE as u32)
}

impl AttentionBackend for CubeBackend {
    fn fused_attention(
        q: CubeTensor,
        k: CubeTensor,
        v: CubeTensor,
        segments: Segments<CubeBackend>,
        options: AttentionOptions,
    ) -> CubeTensor {
        Operands::new([q, k, v], segments, options).forward().0
    }
}

#[derive(Debug)]
struct AttentionBackward;

#[derive(Clone, Debug)]
struct AttentionState {
    operands: Operands,
    out: CubeTensor,
    log_sums: CubeTensor,
}

impl Backward<CubeBackend, 3> for AttentionBackward {
    type State = AttentionState;

    fn backward(self, ops: Ops<AttentionState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<CubeBackend>(&ops.node);
        let AttentionState { operands, out, log_sums } = ops.state;
        for (node, derivative) in ops.parents.into_iter().zip(operands.backward(out, log_sums, grad)) {
            if let Some(node) = node {
                grads.register::<CubeBackend>(node.id, derivative);
            }
        }
    }
}

impl<C: CheckpointStrategy> AttentionBackend for Autodiff<CubeBackend, C> {
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        segments: Segments<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self> {
        let [(q, q_node), (k, k_node), (v, v_node)] = [q.into_parts(), k.into_parts(), v.into_parts()];
        let operands = Operands::new([q, k, v], segments, options);
        let (out, log_sums) = operands.forward();
        match AttentionBackward.prepare::<C>([q_node, k_node, v_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(AttentionState { operands, out: out.clone(), log_sums }, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
