//! The non-linearity between the two matrices of a feed-forward block, alone or times a second projection.
//!
//! Keeps only its inputs; the backward pass computes value and slope of the function again.

use crate::{
    cpu::{Fresh, vectorised},
    flex::{dense, is_fused, tensor_of, values},
    functions::{erf, exp, sigmoid, tanh},
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
        tensor::FloatTensor,
    },
    tensor::{Tensor, activation as burn_activation},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// The activation functions of decoder language models, by the names of Hugging Face's `hidden_act`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)` (`silu`, `swish`).
    Silu,
    /// `x * Phi(x)` with the error function (`gelu`).
    GeluExact,
    /// The tanh approximation of GELU (`gelu_new`, `gelu_pytorch_tanh`, `gelu_fast`).
    GeluTanh,
    /// `max(x, 0)` (`relu`).
    Relu,
    /// `x * sigmoid(1.702 x)` (`quick_gelu`).
    QuickGelu,
}

/// `activation(gate) * up`, elementwise; both `[batch, time, width]` in f32.
pub fn gated(gate: Tensor<3>, up: Tensor<3>, activation: Activation) -> Tensor<3> {
    assert_eq!(gate.dims(), up.dims(), "gate and up");
    if !is_fused(&gate.device()) {
        return composed_gated(gate, up, activation);
    }
    let (gate, up) = (gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(<Dispatch as ActivationBackend>::fused_gated(gate, up, activation))
}

/// `activation(x)`, elementwise; `x` is `[batch, time, width]` in f32.
pub fn activate(x: Tensor<3>, activation: Activation) -> Tensor<3> {
    if !is_fused(&x.device()) {
        return composed(x, activation);
    }
    Tensor::from_dispatch(<Dispatch as ActivationBackend>::fused_activate(x.into_dispatch(), activation))
}

/// [`gated`] in plain Burn operations.
pub fn composed_gated(gate: Tensor<3>, up: Tensor<3>, activation: Activation) -> Tensor<3> {
    composed(gate, activation) * up
}

/// [`activate`] in plain Burn operations.
pub fn composed(x: Tensor<3>, activation: Activation) -> Tensor<3> {
    match activation {
        Activation::Silu => burn_activation::silu(x),
        // Burn's own has the derivative of the approximation by tanh on devices, 1e-3 away.
        Activation::GeluExact => ((x.clone() / std::f64::consts::SQRT_2).erf() + 1.0) * x * 0.5,
        Activation::GeluTanh => {
            // A product, where Burn takes a power: drivers differ in how precise theirs is.
            let cube = x.clone() * x.clone() * x.clone();
            let inner = (x.clone() + cube * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            (x * (inner.tanh() + 1.0)) * 0.5
        }
        Activation::Relu => burn_activation::relu(x),
        Activation::QuickGelu => x.clone() * burn_activation::sigmoid(x.mul_scalar(1.702)),
    }
}

/// Backends with a fused [`gated`] and [`activate`].
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff)]
pub trait ActivationBackend: Backend {
    /// See [`gated`].
    fn fused_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
    /// See [`activate`].
    fn fused_activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
}

/// Elements of one task.
const CHUNK: usize = 1 << 14;

/// `$work` with `$f` the value-and-slope function of an activation: written out for each, so that its loop is compiled for it.
macro_rules! with_function {
    ($activation:expr, $f:ident => $work:expr) => {
        match $activation {
            Activation::Silu => {
                let $f = silu;
                $work
            }
            Activation::GeluExact => {
                let $f = gelu_exact;
                $work
            }
            Activation::GeluTanh => {
                let $f = gelu_tanh;
                $work
            }
            Activation::Relu => {
                let $f = relu;
                $work
            }
            Activation::QuickGelu => {
                let $f = quick_gelu;
                $work
            }
        }
    };
}

#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let s = sigmoid(x);
    (x * s, s * (1.0 + x * (1.0 - s)))
}

#[inline(always)]
fn gelu_exact(x: f32) -> (f32, f32) {
    const DENSITY_AT_ZERO: f32 = 0.398_942_3;
    let below = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
    (x * below, below + x * DENSITY_AT_ZERO * exp(-0.5 * x * x))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    const ROOT: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    let t = tanh(ROOT * (x + CUBIC * x * x * x));
    let slope = ROOT * (1.0 + 3.0 * CUBIC * x * x);
    (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
}

#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    // Written so that NaN stays NaN.
    if x < 0.0 { (0.0, 0.0) } else { (x, if x > 0.0 { 1.0 } else { 0.0 }) }
}

#[inline(always)]
fn quick_gelu(x: f32) -> (f32, f32) {
    let s = sigmoid(1.702 * x);
    (x * s, s * (1.0 + 1.702 * x * (1.0 - s)))
}

/// One output from two inputs, elementwise.
fn map2(x: &FlexTensor, y: &FlexTensor, f: impl Fn(f32, f32) -> f32 + Sync) -> FlexTensor {
    let mut out = Fresh::new(x.layout().num_elements());
    let inputs = values(x).par_chunks(CHUNK).zip(values(y).par_chunks(CHUNK));
    out.par_chunks(CHUNK).zip(inputs).for_each(|(out, (x, y))| {
        vectorised(
            #[inline(always)]
            || {
                for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
                    *out = f(*x, *y);
                }
            },
        );
    });
    tensor_of(out.finish(), x.layout().shape().clone())
}

impl ActivationBackend for Flex {
    fn fused_gated(gate: FlexTensor, up: FlexTensor, activation: Activation) -> FlexTensor {
        operation!("gated");
        let (gate, up) = (dense(gate), dense(up));
        with_function!(activation, f => map2(&gate, &up, #[inline(always)] |gate, up| f(gate).0 * up))
    }

    fn fused_activate(x: FlexTensor, activation: Activation) -> FlexTensor {
        operation!("activate");
        let x = dense(x);
        with_function!(activation, f => map2(&x, &x, #[inline(always)] |x, _| f(x).0))
    }
}

#[derive(Debug)]
struct GatedBackward;

impl Backward<Flex, 2> for GatedBackward {
    type State = (FlexTensor, FlexTensor, Activation);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("gated backward");
        let [gate_node, up_node] = ops.parents;
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let (gate, up, activation) = ops.state;
        let shape = gate.layout().shape();
        let (mut d_gate, mut d_up) = (Fresh::new(shape.num_elements()), Fresh::new(shape.num_elements()));
        {
            let inputs = values(&gate).par_chunks(CHUNK).zip(values(&up).par_chunks(CHUNK));
            let inputs = inputs.zip(values(&grad).par_chunks(CHUNK));
            let outputs = d_gate.par_chunks(CHUNK).zip(d_up.par_chunks(CHUNK));
            with_function!(activation, f => outputs.zip(inputs).for_each(
                |((d_gate, d_up), ((gate, up), grad))| vectorised(#[inline(always)] || {
                    let inputs = gate.iter().zip(up).zip(grad);
                    for ((d_gate, d_up), ((gate, up), grad)) in d_gate.iter_mut().zip(d_up).zip(inputs) {
                        let (value, slope) = f(*gate);
                        *d_gate = grad * up * slope;
                        *d_up = grad * value;
                    }
                })
            ));
        }
        for (node, derivative) in [(gate_node, d_gate), (up_node, d_up)] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor_of(derivative.finish(), shape.clone()));
            }
        }
    }
}

#[derive(Debug)]
struct ActivateBackward;

impl Backward<Flex, 1> for ActivateBackward {
    type State = (FlexTensor, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("activate backward");
        let [node] = ops.parents;
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let (x, activation) = ops.state;
        if let Some(node) = node {
            let d_x = with_function!(activation, f => map2(&x, &grad, #[inline(always)] |x, grad| grad * f(x).1));
            grads.register::<Flex>(node.id, d_x);
        }
    }
}

impl<C: CheckpointStrategy> ActivationBackend for Autodiff<Flex, C> {
    fn fused_gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let (gate, up) = (dense(gate), dense(up));
        match GatedBackward.prepare::<C>([gate_node, up_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = Flex::fused_gated(gate.clone(), up.clone(), activation);
                prep.finish((gate, up, activation), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_gated(gate, up, activation)),
        }
    }

    fn fused_activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let x = dense(x);
        match ActivateBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = Flex::fused_activate(x.clone(), activation);
                prep.finish((x, activation), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_activate(x, activation)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, finite_differences, in_pools, numbers, random, values};
    use burn::tensor::{Device, TensorData};

    const ALL: [Activation; 5] =
        [Activation::Silu, Activation::GeluExact, Activation::GeluTanh, Activation::Relu, Activation::QuickGelu];

    type Form = fn(Tensor<3>, Tensor<3>, Activation) -> Tensor<3>;

    fn passes(form: Form, gate: Tensor<3>, up: Tensor<3>, activation: Activation) -> [Vec<f32>; 3] {
        let (gate, up) = (gate.require_grad(), up.require_grad());
        let out = form(gate.clone(), up.clone(), activation);
        let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
        [values(out), values(gate.grad(&grads).unwrap()), values(up.grad(&grads).unwrap())]
    }

    #[test]
    fn gated_equals_composed() {
        for activation in ALL {
            for (time, width) in [(1, 1), (3, 10), (40, 500)] {
                let (gate, up) = (random([1, time, width], 1) * 16.0, random([1, time, width], 2));
                let found = passes(gated, gate.clone(), up.clone(), activation);
                let expected = passes(composed_gated, gate, up, activation);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_near(found, expected, 3e-6);
                }
            }
        }
    }

    #[test]
    fn activate_equals_composed() {
        let first: Form = |x, _, activation| activate(x, activation);
        for activation in ALL {
            let x = random([2, 30, 300], 1) * 16.0;
            let run = |form: fn(Tensor<3>, Activation) -> Tensor<3>| {
                let x = x.clone().require_grad();
                let out = form(x.clone(), activation);
                let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
                [values(out), values(x.grad(&grads).unwrap())]
            };
            for (found, expected) in run(activate).iter().zip(&run(composed)) {
                assert_near(found, expected, 3e-6);
            }
            assert!(!first(random([1, 1, 2], 1), random([1, 1, 2], 1), activation).is_tracked());
        }
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let (gate, up) = (numbers(5, 1).iter().map(|x| 4.0 * x).collect::<Vec<_>>(), numbers(5, 2));
        let of = |x: &[f32]| Tensor::<3>::from_data(TensorData::new(x.to_vec(), [1, 1, 5]), &Device::flex().autodiff());
        for activation in ALL {
            let value = |gate: &[f32], up: &[f32]| {
                values((gated(of(gate), of(up), activation) * random([1, 1, 5], 9)).sum())[0]
            };
            let [_, d_gate, d_up] = passes(gated, of(&gate), of(&up), activation);
            // Differences in f32 over a step of 0.01 leave about 1e-4.
            assert_near(&d_gate, &finite_differences(&gate, 0.01, |gate| value(gate, &up)), 2e-4);
            assert_near(&d_up, &finite_differences(&up, 0.01, |up| value(&gate, up)), 2e-4);
        }
    }

    #[test]
    fn nan_stays_and_extremes_are_finite() {
        let device = Device::flex();
        for activation in ALL {
            let x = Tensor::<3>::from_floats([[[f32::NAN, 1e30, -1e30, 0.0]]], &device);
            let out = values(activate(x, activation));
            assert!(out[0].is_nan(), "{activation:?}");
            assert_eq!(out[1..], [1e30, -0.0, 0.0], "{activation:?}");
        }
    }

    #[test]
    fn frozen_inputs_build_no_graph() {
        let (gate, up) = (random([1, 2, 3], 1), random([1, 2, 3], 2));
        assert!(!gated(gate.clone(), up.clone(), Activation::Silu).is_tracked());
        assert!(gated(gate, up.require_grad(), Activation::Silu).is_tracked());
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        in_pools(|| passes(gated, random([2, 60, 700], 1), random([2, 60, 700], 2), Activation::Silu));
    }
}
