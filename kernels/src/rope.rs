//! Rotary position embedding (Su et al. 2021, arXiv:2104.09864) in both layouts found in checkpoints.
//!
//! The angles come from outside: frequencies and their scaling belong to the model. The backward pass turns the other way and needs no input.

use crate::{
    cpu::{Fresh, vectorised},
    flex::{dense, is_fused, tensor_of, values},
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
    tensor::Tensor,
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Which two elements of a head form a pair that is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// `(i, i + dims/2)`: `rotate_half` of LLaMA, GPT-NeoX and most others.
    Half,
    /// `(2i, 2i + 1)`: GPT-J, and the original paper.
    Interleaved,
}

/// Rotates the first `dims` elements of each head; the rest pass through.
///
/// `x` is `[batch, time, heads, head_dim]`; `cos` and `sin` are `[batch, time, dims/2]` and constant.
///
/// # Panics
/// When the shapes do not fit together.
pub fn rope(x: Tensor<4>, cos: Tensor<3>, sin: Tensor<3>, style: RopeStyle) -> Tensor<4> {
    let [batch, time, _, head_dim] = x.dims();
    let half = cos.dims()[2];
    assert_eq!([cos.dims(), sin.dims()], [[batch, time, half]; 2], "angles for x {:?}", x.dims());
    assert!(2 * half <= head_dim, "{half} angles for heads of {head_dim}");
    if !is_fused(&x.device()) {
        return composed(x, cos, sin, style);
    }
    let (x, cos, sin) = (x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch());
    Tensor::from_dispatch(<Dispatch as RopeBackend>::fused_rope(x, cos, sin, style))
}

/// [`rope`] in plain Burn operations.
pub fn composed(x: Tensor<4>, cos: Tensor<3>, sin: Tensor<3>, style: RopeStyle) -> Tensor<4> {
    let [batch, time, heads, head_dim] = x.dims();
    let half = cos.dims()[2];
    let rotated = x.clone().slice_dim(3, 0..2 * half);
    let cos = cos.unsqueeze_dim::<4>(2);
    let sin = sin.unsqueeze_dim::<4>(2);
    let rotate = |first: Tensor<4>, second: Tensor<4>| {
        let turned = second.clone() * cos.clone() + first.clone() * sin.clone();
        (first * cos.clone() - second * sin.clone(), turned)
    };
    let rotated = match style {
        RopeStyle::Half => {
            let first = rotated.clone().slice_dim(3, 0..half);
            let (first, second) = rotate(first, rotated.slice_dim(3, half..2 * half));
            Tensor::cat(vec![first, second], 3)
        }
        RopeStyle::Interleaved => {
            let pairs = rotated.reshape([batch, time, heads, half, 2]);
            let first = pairs.clone().slice_dim(4, 0..1).squeeze_dim::<4>(4);
            let (first, second) = rotate(first, pairs.slice_dim(4, 1..2).squeeze_dim::<4>(4));
            let pairs = vec![first.unsqueeze_dim::<5>(4), second.unsqueeze_dim::<5>(4)];
            Tensor::cat(pairs, 4).reshape([batch, time, heads, 2 * half])
        }
    };
    if 2 * half == head_dim {
        return rotated;
    }
    Tensor::cat(vec![rotated, x.slice_dim(3, 2 * half..head_dim)], 3)
}

/// Backends with a fused [`rope`].
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff)]
pub trait RopeBackend: Backend {
    /// See [`rope`].
    fn fused_rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        style: RopeStyle,
    ) -> FloatTensor<Self>;
}

/// Positions of one task.
const POSITIONS: usize = 16;

/// Rotates by the angles times `direction`, which is 1 or -1.
fn rotate(x: &FlexTensor, cos: &FlexTensor, sin: &FlexTensor, style: RopeStyle, direction: f32) -> FlexTensor {
    let shape = x.layout().shape();
    let (heads, head_dim) = (shape[2], shape[3]);
    let half = cos.layout().shape()[2];
    let (x, cos, sin) = (values(x), values(cos), values(sin));
    let width = heads * head_dim;
    let mut out = Fresh::new(x.len());
    let size = (POSITIONS * width).max(1);
    out.par_chunks(size).zip(x.par_chunks(size)).enumerate().for_each(|(task, (out, x))| {
        vectorised(
            #[inline(always)]
            || {
                let positions = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
                for (position, (out, x)) in positions.enumerate() {
                    let angle = (task * POSITIONS + position) * half;
                    let (cos, sin) = (&cos[angle..angle + half], &sin[angle..angle + half]);
                    for (out, x) in out.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
                        match style {
                            RopeStyle::Half => rotate_halves(out, x, cos, sin, direction),
                            RopeStyle::Interleaved => rotate_pairs(out, x, cos, sin, direction),
                        }
                        out[2 * half..].copy_from_slice(&x[2 * half..]);
                    }
                }
            },
        );
    });
    tensor_of(out.finish(), shape.clone())
}

#[inline(always)]
fn rotate_halves(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], direction: f32) {
    let half = cos.len();
    let (out_first, out_second) = out[..2 * half].split_at_mut(half);
    let (first, second) = x[..2 * half].split_at(half);
    for i in 0..half {
        let sin = sin[i] * direction;
        out_first[i] = first[i] * cos[i] - second[i] * sin;
        out_second[i] = second[i] * cos[i] + first[i] * sin;
    }
}

#[inline(always)]
fn rotate_pairs(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], direction: f32) {
    let angles = cos.iter().zip(sin);
    for ((out, x), (cos, sin)) in out.chunks_exact_mut(2).zip(x.chunks_exact(2)).zip(angles) {
        let sin = sin * direction;
        out[0] = x[0] * cos - x[1] * sin;
        out[1] = x[1] * cos + x[0] * sin;
    }
}

impl RopeBackend for Flex {
    fn fused_rope(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, style: RopeStyle) -> FlexTensor {
        operation!("rope");
        rotate(&dense(x), &dense(cos), &dense(sin), style, 1.0)
    }
}

#[derive(Debug)]
struct RopeBackward;

impl Backward<Flex, 1> for RopeBackward {
    type State = (FlexTensor, FlexTensor, RopeStyle);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("rope backward");
        let [node] = ops.parents;
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let (cos, sin, style) = ops.state;
        if let Some(node) = node {
            grads.register::<Flex>(node.id, rotate(&grad, &cos, &sin, style, -1.0));
        }
    }
}

impl<C: CheckpointStrategy> RopeBackend for Autodiff<Flex, C> {
    fn fused_rope(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        style: RopeStyle,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let (cos, sin) = (dense(cos.into_primitive()), dense(sin.into_primitive()));
        let out = rotate(&dense(x), &cos, &sin, style, 1.0);
        match RopeBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cos, sin, style), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, finite_differences, in_pools, numbers, random, values};
    use burn::tensor::{Device, TensorData};

    const STYLES: [RopeStyle; 2] = [RopeStyle::Half, RopeStyle::Interleaved];

    /// Whole heads, heads of which a part passes through, odd heads, one pair, many positions.
    const SIZES: [([usize; 4], usize); 9] = [
        ([1, 1, 1, 2], 1),
        ([2, 1, 3, 10], 5),
        ([1, 7, 6, 10], 2),
        ([2, 40, 3, 64], 32),
        ([1, 3, 2, 7], 2),
        ([2, 5, 1, 5], 2),
        ([1, 5, 3, 9], 1),
        ([2, 37, 2, 64], 16),
        ([1, 50, 2, 80], 10),
    ];

    type Form = fn(Tensor<4>, Tensor<3>, Tensor<3>, RopeStyle) -> Tensor<4>;

    fn passes(form: Form, sizes: [usize; 4], half: usize, style: RopeStyle) -> [Vec<f32>; 2] {
        let [batch, time, ..] = sizes;
        let (x, angles) = (random(sizes, 1).require_grad(), random([batch, time, half], 2) * 6.0);
        let out = form(x.clone(), angles.clone().cos(), angles.sin(), style);
        let grads = (out.clone() * random(sizes, 9)).sum().backward();
        [values(out), values(x.grad(&grads).unwrap())]
    }

    #[test]
    fn equals_composed() {
        for style in STYLES {
            for (sizes, half) in SIZES {
                let found = passes(rope, sizes, half, style);
                for (found, expected) in found.iter().zip(&passes(composed, sizes, half, style)) {
                    assert_near(found, expected, 1e-6);
                }
            }
        }
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let angles = random([1, 2, 2], 2);
        let of =
            |x: &[f32]| Tensor::<4>::from_data(TensorData::new(x.to_vec(), [1, 2, 1, 5]), &Device::flex().autodiff());
        let point = numbers(10, 1);
        for style in STYLES {
            let run = |x: Tensor<4>| {
                (rope(x, angles.clone().cos(), angles.clone().sin(), style) * random([1, 2, 1, 5], 9)).sum()
            };
            let x = of(&point).require_grad();
            let grads = run(x.clone()).backward();
            let differences = finite_differences(&point, 0.1, |x| values(run(of(x)))[0]);
            assert_near(&values(x.grad(&grads).unwrap()), &differences, 1e-5);
        }
    }

    #[test]
    fn pairs_are_those_of_each_style() {
        let device = Device::flex();
        let x = Tensor::<4>::from_floats([[[[1.0, 0.0, 0.0, 0.0, 9.0]]]], &device);
        let (cos, sin) = (Tensor::<3>::zeros([1, 1, 2], &device), Tensor::<3>::ones([1, 1, 2], &device));
        let turned = |style| values(rope(x.clone(), cos.clone(), sin.clone(), style));
        assert_eq!(turned(RopeStyle::Half), [0.0, 0.0, 1.0, 0.0, 9.0]);
        assert_eq!(turned(RopeStyle::Interleaved), [0.0, 1.0, 0.0, 0.0, 9.0]);
    }

    #[test]
    fn views_are_accepted_and_frozen_inputs_build_no_graph() {
        let (x, angles) = (random([2, 3, 4, 6], 1), random([2, 4, 3], 2));
        let turned = x.swap_dims(1, 2);
        let found = rope(turned.clone(), angles.clone().cos(), angles.clone().sin(), RopeStyle::Half);
        assert!(!found.is_tracked());
        let expected = composed(turned, angles.clone().cos(), angles.sin(), RopeStyle::Half);
        assert_near(&values(found), &values(expected), 1e-6);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        in_pools(|| passes(rope, [2, 70, 6, 16], 8, RopeStyle::Half));
    }
}
