//! Activations alone and times a second projection: a unit a number. Inputs alone are kept for the backward pass.

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
use crate::activation::{Activation, ActivationBackend};

#[cube]
fn sigmoid(x: f32) -> f32 {
    // Of the two exponentials the one that does not overflow.
    let small = (-x.abs()).exp();
    let far = 1.0f32 / (1.0f32 + small);
    if x >= 0.0 { far } else { small * far }
}

/// Value and slope of an activation.
#[cube]
#[allow(unstable_name_collisions)] // CubeCL's `erf`; the standard library has none that is stable.
fn function(x: f32, #[comptime] activation: Activation) -> (f32, f32) {
    match comptime!(activation) {
        Activation::Silu => {
            let s = sigmoid(x);
            (x * s, s * (1.0f32 + x * (1.0f32 - s)))
        }
        Activation::GeluExact => {
            let below = 0.5f32 * (1.0f32 + f32::erf(x * 0.707_106_8f32));
            (x * below, below + x * 0.398_942_3f32 * (-0.5f32 * x * x).exp())
        }
        Activation::GeluTanh => {
            let t = (0.797_884_6f32 * (x + 0.044_715f32 * x * x * x)).tanh();
            let slope = 0.797_884_6f32 * (1.0f32 + 0.134_145f32 * x * x);
            (0.5f32 * x * (1.0f32 + t), 0.5f32 * (1.0f32 + t) + 0.5f32 * x * (1.0f32 - t * t) * slope)
        }
        Activation::Relu => {
            // Written so that NaN stays NaN.
            let value = if x < 0.0 { 0.0f32 } else { x };
            let slope = if x > 0.0 { 1.0f32 } else { 0.0f32 };
            (value, slope)
        }
        Activation::QuickGelu => {
            let s = sigmoid(1.702f32 * x);
            (x * s, s * (1.0f32 + 1.702f32 * x * (1.0f32 - s)))
        }
    }
}

#[cube(launch)]
fn gated(gate: &[f32], up: &[f32], out: &mut [f32], #[comptime] activation: Activation) {
    let at = ABSOLUTE_POS;
    if at >= out.len() {
        terminate!();
    }
    let (value, _slope) = function(gate[at], activation);
    out[at] = value * up[at];
}

#[cube(launch)]
fn gated_backward(
    gate: &[f32],
    up: &[f32],
    grad: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
    #[comptime] activation: Activation,
) {
    let at = ABSOLUTE_POS;
    if at >= grad.len() {
        terminate!();
    }
    let (value, slope) = function(gate[at], activation);
    d_gate[at] = grad[at] * up[at] * slope;
    d_up[at] = grad[at] * value;
}

#[cube(launch)]
fn activate(x: &[f32], out: &mut [f32], #[comptime] activation: Activation) {
    let at = ABSOLUTE_POS;
    if at >= out.len() {
        terminate!();
    }
    let (value, _slope) = function(x[at], activation);
    out[at] = value;
}

#[cube(launch)]
fn activate_backward(x: &[f32], grad: &[f32], d_x: &mut [f32], #[comptime] activation: Activation) {
    let at = ABSOLUTE_POS;
    if at >= grad.len() {
        terminate!();
    }
    let (_value, slope) = function(x[at], activation);
    d_x[at] = grad[at] * slope;
}

/// A tensor of the same shape, and the launch that fills it, which there is none of where there are no numbers.
fn filled(like: &CubeTensor, launch: impl FnOnce(CubeCount, CubeDim, CubeTensor)) -> CubeTensor {
    let out = unwritten(like, like.meta.shape().clone());
    let numbers = out.meta.num_elements();
    if numbers > 0 {
        let (count, dim) = units(numbers);
        launch(count, dim, out.clone());
    }
    out
}

impl ActivationBackend for CubeBackend {
    fn fused_gated(gate: CubeTensor, up: CubeTensor, activation: Activation) -> CubeTensor {
        let (gate, up) = (dense(gate), dense(up));
        let client = gate.client.clone();
        filled(&gate.clone(), |count, dim, out| {
            gated::launch(
                &client,
                count,
                dim,
                gate.into_buffer_arg(),
                up.into_buffer_arg(),
                out.into_buffer_arg(),
                activation,
            )
        })
    }

    fn fused_activate(x: CubeTensor, activation: Activation) -> CubeTensor {
        let x = dense(x);
        let client = x.client.clone();
        filled(&x.clone(), |count, dim, out| {
            activate::launch(&client, count, dim, x.into_buffer_arg(), out.into_buffer_arg(), activation)
        })
    }
}

#[derive(Debug)]
struct GatedBackward;

impl Backward<CubeBackend, 2> for GatedBackward {
    type State = (CubeTensor, CubeTensor, Activation);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [gate_node, up_node] = ops.parents;
        let grad = dense(grads.consume::<CubeBackend>(&ops.node));
        let (gate, up, activation) = ops.state;
        let (client, d_up) = (gate.client.clone(), unwritten(&gate, gate.meta.shape().clone()));
        let d_gate = filled(&gate.clone(), |count, dim, d_gate| {
            let [gate, up, grad, d_gate, d_up] =
                [gate, up, grad, d_gate, d_up.clone()].map(CubeTensor::into_buffer_arg);
            gated_backward::launch(&client, count, dim, gate, up, grad, d_gate, d_up, activation)
        });
        for (node, derivative) in [(gate_node, d_gate), (up_node, d_up)] {
            if let Some(node) = node {
                grads.register::<CubeBackend>(node.id, derivative);
            }
        }
    }
}

#[derive(Debug)]
struct ActivateBackward;

impl Backward<CubeBackend, 1> for ActivateBackward {
    type State = (CubeTensor, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let grad = dense(grads.consume::<CubeBackend>(&ops.node));
        let (x, activation) = ops.state;
        let client = x.client.clone();
        let d_x = filled(&x.clone(), |count, dim, d_x| {
            let [x, grad, d_x] = [x, grad, d_x].map(CubeTensor::into_buffer_arg);
            activate_backward::launch(&client, count, dim, x, grad, d_x, activation)
        });
        if let Some(node) = node {
            grads.register::<CubeBackend>(node.id, d_x);
        }
    }
}

impl<C: CheckpointStrategy> ActivationBackend for Autodiff<CubeBackend, C> {
    fn fused_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let (gate, up) = (dense(gate), dense(up));
        let out = CubeBackend::fused_gated(gate.clone(), up.clone(), activation);
        match GatedBackward.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((gate, up, activation), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let x = dense(x);
        let out = CubeBackend::fused_activate(x.clone(), activation);
        match ActivateBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, activation), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
