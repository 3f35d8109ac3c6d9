//! Rotary position embedding: a unit a number. The backward pass turns the other way.

use burn::backend::{
    Autodiff,
    autodiff::{
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::FloatTensor,
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, prelude::*},
    tensor::CubeTensor,
};

use super::launch::{dense, units, unwritten};
use crate::rope::{RopeBackend, RopeStyle};

#[cube(launch)]
fn rotate(
    x: &[f32],
    cos: &[f32],
    sin: &[f32],
    out: &mut [f32],
    heads: u32,
    head_dim: u32,
    half: u32,
    direction: f32,
    #[comptime] style: RopeStyle,
) {
    let at = ABSOLUTE_POS;
    if at >= out.len() {
        terminate!();
    }
    let (head_dim, half) = (head_dim as usize, half as usize);
    let inside = at % head_dim;
    let value = x[at];
    if inside >= 2 * half {
        out[at] = value;
    } else {
        let position = at / (head_dim * heads as usize);
        let mut first = inside < half;
        let mut angle = inside % half;
        let mut apart = half;
        if comptime!(style == RopeStyle::Interleaved) {
            first = inside % 2 == 0;
            angle = inside / 2;
            apart = 1usize;
        }
        let cos = cos[position * half + angle];
        let sin = sin[position * half + angle] * direction;
        if first {
            out[at] = value * cos - x[at + apart] * sin;
        } else {
            out[at] = value * cos + x[at - apart] * sin;
        }
    }
}

fn turn(x: CubeTensor, cos: &CubeTensor, sin: &CubeTensor, style: RopeStyle, direction: f32) -> CubeTensor {
    let x = dense(x);
    let shape = x.meta.shape().clone();
    let out = unwritten(&x, shape.clone());
    let half = cos.meta.shape()[2];
    if half == 0 || shape.num_elements() == 0 {
        return x;
    }
    let (count, dim) = units(shape.num_elements());
    rotate::launch(
        &out.client,
        count,
        dim,
        x.into_buffer_arg(),
        cos.clone().into_buffer_arg(),
        sin.clone().into_buffer_arg(),
        out.clone().into_buffer_arg(),
        shape[2] as u32,
        shape[3] as u32,
        half as u32,
        direction,
        style,
    );
    out
}

impl RopeBackend for CubeBackend {
    fn fused_rope(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, style: RopeStyle) -> CubeTensor {
        turn(x, &dense(cos), &dense(sin), style, 1.0)
    }
}

#[derive(Debug)]
struct RopeBackward;

#[derive(Clone, Debug)]
struct RopeState {
    cos: CubeTensor,
    sin: CubeTensor,
    style: RopeStyle,
}

impl Backward<CubeBackend, 1> for RopeBackward {
    type State = RopeState;

    fn backward(self, ops: Ops<RopeState, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let grad = grads.consume::<CubeBackend>(&ops.node);
        if let Some(node) = node {
            let RopeState { cos, sin, style } = ops.state;
            grads.register::<CubeBackend>(node.id, turn(grad, &cos, &sin, style, -1.0));
        }
    }
}

impl<C: CheckpointStrategy> RopeBackend for Autodiff<CubeBackend, C> {
    fn fused_rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        style: RopeStyle,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let [cos, sin] = [cos, sin].map(|table| dense(table.into_primitive()));
        let out = turn(x, &cos, &sin, style, 1.0);
        match RopeBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(RopeState { cos, sin, style }, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
