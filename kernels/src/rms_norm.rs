//! Root mean square normalisation (Zhang & Sennrich 2019, arXiv:1910.07467) as Hugging Face rounds it: all in f32.
//!
//! Keeps its input for the backward pass, not the normalised rows.

use crate::{
    cpu::{Fresh, vectorised},
    flex::{dense, is_fused, tensor, tensor_of, values},
    sums::{inner_product, sum_vectors},
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
    tensor::{DType, Tensor},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Rows of one task; the gradient of the weight is summed inside a task and then from task to task.
const ROWS: usize = 32;

/// `x * rsqrt(mean(x^2) + eps) * (weight + offset)` over the last axis of `x` `[batch, time, width]`, all in f32.
///
/// `offset` is 0.0 for LLaMA and 1.0 for Gemma, whose weights are stored as a distance from one.
pub fn rms_norm(x: Tensor<3>, weight: Tensor<1>, eps: f64, offset: f64) -> Tensor<3> {
    assert_eq!(x.dims()[2], weight.dims()[0], "width of x and of the weight");
    if !is_fused(&x.device()) {
        return composed(x, weight, eps, offset);
    }
    let (x, weight) = (x.cast(DType::F32).into_dispatch(), weight.cast(DType::F32).into_dispatch());
    Tensor::from_dispatch(<Dispatch as RmsNormBackend>::fused_rms_norm(x, weight, eps, offset))
}

/// [`rms_norm`] in plain Burn operations.
pub fn composed(x: Tensor<3>, weight: Tensor<1>, eps: f64, offset: f64) -> Tensor<3> {
    let x = x.cast(DType::F32);
    let scale = (x.clone() * x.clone()).mean_dim(2).add_scalar(eps).sqrt().recip();
    x * scale * weight.cast(DType::F32).add_scalar(offset).unsqueeze::<3>()
}

/// Backends with a fused [`rms_norm`].
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff)]
pub trait RmsNormBackend: Backend {
    /// See [`rms_norm`].
    fn fused_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64, offset: f64) -> FloatTensor<Self>;
}

impl RmsNormBackend for Flex {
    fn fused_rms_norm(x: FlexTensor, weight: FlexTensor, eps: f64, offset: f64) -> FlexTensor {
        operation!("rms_norm");
        let x = dense(x);
        let factors = factors(weight, offset);
        let width = factors.len();
        let mut out = Fresh::new(x.layout().num_elements());
        let size = (ROWS * width).max(1);
        out.par_chunks(size).zip(values(&x).par_chunks(size)).for_each(|(out, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let scale = scale(x, eps as f32);
                        for ((out, x), factor) in out.iter_mut().zip(x).zip(&factors) {
                            *out = x * scale * factor;
                        }
                    }
                },
            );
        });
        tensor_of(out.finish(), x.layout().shape().clone())
    }
}

fn factors(weight: FlexTensor, offset: f64) -> Vec<f32> {
    values(&dense(weight)).iter().map(|weight| weight + offset as f32).collect()
}

/// `rsqrt(mean(x^2) + eps)`.
#[inline(always)]
fn scale(x: &[f32], eps: f32) -> f32 {
    1.0 / (inner_product(x, x) / x.len() as f32 + eps).sqrt()
}

#[derive(Debug)]
struct RmsNormBackward;

#[derive(Clone, Debug)]
struct RmsNormState {
    x: FlexTensor,
    weight: FlexTensor,
    eps: f64,
    offset: f64,
}

impl Backward<Flex, 2> for RmsNormBackward {
    type State = RmsNormState;

    fn backward(self, ops: Ops<RmsNormState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("rms_norm backward");
        let [x_node, weight_node] = ops.parents;
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let RmsNormState { x, weight, eps, offset } = ops.state;
        let factors = factors(weight, offset);
        let width = factors.len();
        let size = (ROWS * width).max(1);
        let mut d_x = Fresh::new(x.layout().num_elements());
        let wanted = weight_node.is_some();
        let task = |((d_x, x), grad): ((&mut [f32], &[f32]), &[f32])| {
            let mut d_weight = vec![0.0; if wanted { width } else { 0 }];
            vectorised(
                #[inline(always)]
                || {
                    let mut scaled = vec![0.0; width];
                    let rows = d_x.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
                    for ((d_x, x), grad) in rows {
                        let scale = scale(x, eps as f32);
                        for ((scaled, grad), factor) in scaled.iter_mut().zip(grad).zip(&factors) {
                            *scaled = grad * factor;
                        }
                        let pull = inner_product(&scaled, x) * scale * scale / width as f32;
                        for ((d_x, x), scaled) in d_x.iter_mut().zip(x).zip(&scaled) {
                            *d_x = scale * (scaled - x * pull);
                        }
                        for ((sum, x), grad) in d_weight.iter_mut().zip(x).zip(grad) {
                            *sum += grad * (x * scale);
                        }
                    }
                },
            );
            d_weight
        };
        let rows = d_x.par_chunks(size).zip(values(&x).par_chunks(size)).zip(values(&grad).par_chunks(size));
        let parts: Vec<Vec<f32>> = rows.map(task).collect();
        if let Some(node) = x_node {
            grads.register::<Flex>(node.id, tensor_of(d_x.finish(), x.layout().shape().clone()));
        }
        if let Some(node) = weight_node {
            grads.register::<Flex>(node.id, tensor(sum_vectors(parts, width), [width]));
        }
    }
}

impl<C: CheckpointStrategy> RmsNormBackend for Autodiff<Flex, C> {
    fn fused_rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64, offset: f64) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let x = dense(x);
        match RmsNormBackward.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = Flex::fused_rms_norm(x.clone(), weight.clone(), eps, offset);
                prep.finish(RmsNormState { x, weight, eps, offset }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_rms_norm(x, weight, eps, offset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, finite_differences, in_pools, numbers, random, values};
    use burn::tensor::{Device, TensorData};

    type Form = fn(Tensor<3>, Tensor<1>, f64, f64) -> Tensor<3>;

    fn passes(form: Form, x: Tensor<3>, weight: Tensor<1>, offset: f64) -> [Vec<f32>; 3] {
        let (x, weight) = (x.require_grad(), weight.require_grad());
        let out = form(x.clone(), weight.clone(), 1e-2, offset);
        let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
        [values(out), values(x.grad(&grads).unwrap()), values(weight.grad(&grads).unwrap())]
    }

    #[test]
    fn equals_composed() {
        for (time, width) in [(1, 1), (1, 10), (7, 16), (70, 33), (50, 576)] {
            for offset in [0.0, 1.0] {
                let (x, weight) = (random([2, time, width], 1), random([width], 2));
                let found = passes(rms_norm, x.clone(), weight.clone(), offset);
                let expected = passes(composed, x, weight, offset);
                for (found, expected) in found.iter().zip(&expected) {
                    assert_near(found, expected, 5e-6);
                }
            }
        }
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let (x, weight) = (numbers(6, 1), numbers(3, 2));
        let of = |x: &[f32], weight: &[f32]| {
            let device = Device::flex().autodiff();
            let x = Tensor::<3>::from_data(TensorData::new(x.to_vec(), [1, 2, 3]), &device);
            (x, Tensor::<1>::from_data(TensorData::new(weight.to_vec(), [3]), &device))
        };
        let value = |x: &[f32], weight: &[f32]| {
            let (x, weight) = of(x, weight);
            values((rms_norm(x, weight, 1e-2, 1.0) * random([1, 2, 3], 9)).sum())[0]
        };
        let (x_tensor, weight_tensor) = of(&x, &weight);
        let [_, d_x, d_weight] = passes(rms_norm, x_tensor, weight_tensor, 1.0);
        // Differences in f32 over a step of 0.003 leave about 1e-4.
        assert_near(&d_x, &finite_differences(&x, 3e-3, |x| value(x, &weight)), 3e-4);
        assert_near(&d_weight, &finite_differences(&weight, 3e-3, |weight| value(&x, weight)), 3e-4);
    }

    #[test]
    fn a_frozen_bf16_weight_is_read_in_f32() {
        let (x, weight) = (random([1, 5, 12], 1).require_grad(), random([12], 2).cast(DType::BF16));
        let out = rms_norm(x.clone(), weight.clone(), 1e-2, 0.0);
        assert_eq!(out.dtype(), DType::F32);
        let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
        let [expected, d_x, _] = passes(composed, x.clone(), weight.cast(DType::F32), 0.0);
        assert_near(&values(out), &expected, 2e-6);
        assert_near(&values(x.grad(&grads).unwrap()), &d_x, 5e-6);
    }

    #[test]
    fn frozen_inputs_build_no_graph_and_nan_passes() {
        let (x, weight) = (random([1, 2, 3], 1), random([3], 2));
        assert!(!rms_norm(x.clone(), weight.clone(), 1e-5, 0.0).is_tracked());
        let x = x.slice_assign([0..1, 1..2, 0..1], Tensor::full([1, 1, 1], f32::NAN, &Device::flex().autodiff()));
        let out = values(rms_norm(x, weight, 1e-5, 0.0));
        assert!(out[..3].iter().all(|x| x.is_finite()) && out[3..].iter().all(|x| x.is_nan()));
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        in_pools(|| passes(rms_norm, random([3, 130, 70], 1), random([70], 2), 0.0));
    }
}
