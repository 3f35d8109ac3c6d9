//! Layer normalisation (Ba, Kiros & Hinton 2016, arXiv:1607.06450) as `torch.nn.LayerNorm`: all in f32, biased variance.
//!
//! The variance is taken around the mean in a second pass: the difference of two large numbers would lose it when the mean is far from
//! zero. Keeps its input for the backward pass, not the normalised rows. Not here: normalisation over more than the last axis.

use crate::{
    cpu::{Fresh, vectorised},
    flex::{dense, is_fused, tensor, tensor_of, values},
    sums::{LANES, inner_product, sum_of, sum_vectors},
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

/// Rows of one task; the gradients of weight and bias are summed inside a task and then from task to task.
const ROWS: usize = 32;

/// `(x - mean(x)) * rsqrt(mean((x - mean(x))^2) + eps) * weight + bias` over the last axis of `x` `[batch, time, width]`, all in f32.
///
/// An absent bias is zero. A weight or bias in f16 or bf16 must be frozen.
///
/// # Panics
/// When the widths differ.
pub fn layer_norm(x: Tensor<3>, weight: Tensor<1>, bias: Option<Tensor<1>>, eps: f64) -> Tensor<3> {
    assert_eq!(x.dims()[2], weight.dims()[0], "width of x and of the weight");
    if let Some(bias) = &bias {
        assert_eq!(weight.dims(), bias.dims(), "width of the weight and of the bias");
    }
    if !is_fused(&x.device()) {
        return composed(x, weight, bias, eps);
    }
    // Zeros that nobody trains: no gradient is computed for them.
    let bias = bias.unwrap_or_else(|| Tensor::zeros(weight.dims(), &x.device()));
    let (x, weight) = (x.cast(DType::F32).into_dispatch(), weight.cast(DType::F32).into_dispatch());
    let bias = bias.cast(DType::F32).into_dispatch();
    Tensor::from_dispatch(<Dispatch as LayerNormBackend>::fused_layer_norm(x, weight, bias, eps))
}

/// [`layer_norm`] in plain Burn operations.
pub fn composed(x: Tensor<3>, weight: Tensor<1>, bias: Option<Tensor<1>>, eps: f64) -> Tensor<3> {
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(2);
    let scale = (centred.clone() * centred.clone()).mean_dim(2).add_scalar(eps).sqrt().recip();
    let scaled = centred * scale * weight.cast(DType::F32).unsqueeze::<3>();
    match bias {
        Some(bias) => scaled + bias.cast(DType::F32).unsqueeze::<3>(),
        None => scaled,
    }
}

/// Backends with a fused [`layer_norm`].
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff)]
pub trait LayerNormBackend: Backend {
    /// See [`layer_norm`].
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

impl LayerNormBackend for Flex {
    fn fused_layer_norm(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, eps: f64) -> FlexTensor {
        operation!("layer_norm");
        let [x, weight, bias] = [x, weight, bias].map(dense);
        let (weight, bias) = (values(&weight), values(&bias));
        let width = weight.len();
        let mut out = Fresh::new(x.layout().num_elements());
        let size = (ROWS * width).max(1);
        out.par_chunks(size).zip(values(&x).par_chunks(size)).for_each(|(out, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                        let (mean, scale) = moments(x, eps as f32);
                        for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                            *out = (x - mean) * scale * weight + bias;
                        }
                    }
                },
            );
        });
        tensor_of(out.finish(), x.layout().shape().clone())
    }
}

/// The mean of a row, and `rsqrt(variance + eps)`.
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum_of::<LANES>(x, x, |x, _| x) / count;
    let variance = sum_of::<LANES>(x, x, |x, _| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

#[derive(Debug)]
struct LayerNormBackward;

#[derive(Clone, Debug)]
struct LayerNormState {
    x: FlexTensor,
    weight: FlexTensor,
    eps: f64,
}

impl Backward<Flex, 3> for LayerNormBackward {
    type State = LayerNormState;

    fn backward(self, ops: Ops<LayerNormState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("layer_norm backward");
        let [x_node, weight_node, bias_node] = ops.parents;
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let LayerNormState { x, weight, eps } = ops.state;
        let weight = values(&weight);
        let width = weight.len();
        let size = (ROWS * width).max(1);
        let mut d_x = Fresh::new(x.layout().num_elements());
        let zeros = |wanted: bool| vec![0.0; if wanted { width } else { 0 }];
        let task = |((d_x, x), grad): ((&mut [f32], &[f32]), &[f32])| {
            let (mut d_weight, mut d_bias) = (zeros(weight_node.is_some()), zeros(bias_node.is_some()));
            vectorised(
                #[inline(always)]
                || {
                    let (mut normal, mut scaled) = (vec![0.0; width], vec![0.0; width]);
                    let rows = d_x.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(grad.chunks_exact(width));
                    for ((d_x, x), grad) in rows {
                        let (mean, scale) = moments(x, eps as f32);
                        for ((normal, scaled), ((x, grad), weight)) in
                            normal.iter_mut().zip(&mut scaled).zip(x.iter().zip(grad).zip(weight))
                        {
                            *normal = (x - mean) * scale;
                            *scaled = grad * weight;
                        }
                        // What moving the mean and the variance would change is taken out.
                        let shift = sum_of::<LANES>(&scaled, &scaled, |scaled, _| scaled) / width as f32;
                        let pull = inner_product(&scaled, &normal) / width as f32;
                        for ((d_x, normal), scaled) in d_x.iter_mut().zip(&normal).zip(&scaled) {
                            *d_x = scale * (scaled - shift - normal * pull);
                        }
                        for ((sum, normal), grad) in d_weight.iter_mut().zip(&normal).zip(grad) {
                            *sum += grad * normal;
                        }
                        for (sum, grad) in d_bias.iter_mut().zip(grad) {
                            *sum += grad;
                        }
                    }
                },
            );
            (d_weight, d_bias)
        };
        let rows = d_x.par_chunks(size).zip(values(&x).par_chunks(size)).zip(values(&grad).par_chunks(size));
        let (d_weights, d_biases): (Vec<_>, Vec<_>) = rows.map(task).collect::<Vec<_>>().into_iter().unzip();
        if let Some(node) = x_node {
            grads.register::<Flex>(node.id, tensor_of(d_x.finish(), x.layout().shape().clone()));
        }
        for (node, parts) in [(weight_node, d_weights), (bias_node, d_biases)] {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(sum_vectors(parts, width), [width]));
            }
        }
    }
}

impl<C: CheckpointStrategy> LayerNormBackend for Autodiff<Flex, C> {
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self> {
        let [(x, x_node), (weight, weight_node), (bias, bias_node)] = [x, weight, bias].map(|input| input.into_parts());
        let [x, weight] = [x, weight].map(dense);
        let out = Flex::fused_layer_norm(x.clone(), weight.clone(), bias, eps);
        match LayerNormBackward.prepare::<C>([x_node, weight_node, bias_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(LayerNormState { x, weight, eps }, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, finite_differences, in_pools, numbers, random, values};
    use burn::tensor::{Device, TensorData};

    type Form = fn(Tensor<3>, Tensor<1>, Option<Tensor<1>>, f64) -> Tensor<3>;

    /// Output, and the gradients of `x`, the weight and the bias if there is one.
    fn passes(form: Form, x: Tensor<3>, weight: Tensor<1>, bias: Option<Tensor<1>>) -> Vec<Vec<f32>> {
        let (x, weight, bias) = (x.require_grad(), weight.require_grad(), bias.map(Tensor::require_grad));
        let out = form(x.clone(), weight.clone(), bias.clone(), 1e-2);
        let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
        let mut found = vec![values(out), values(x.grad(&grads).unwrap()), values(weight.grad(&grads).unwrap())];
        found.extend(bias.map(|bias| values(bias.grad(&grads).unwrap())));
        found
    }

    #[test]
    fn equals_composed() {
        for (time, width) in [(1, 1), (1, 10), (7, 16), (70, 33), (50, 576)] {
            for bias in [None, Some(random([width], 3))] {
                let (x, weight) = (random([2, time, width], 1) + 0.3, random([width], 2));
                let found = passes(layer_norm, x.clone(), weight.clone(), bias.clone());
                let expected = passes(composed, x, weight, bias);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    assert_near(found, expected, 1e-5);
                }
            }
        }
    }

    #[test]
    fn numbers_are_those_of_the_formula() {
        let device = Device::flex();
        let x = Tensor::<3>::from_floats([[[1.0, 3.0, 8.0]]], &device);
        let weight = Tensor::<1>::from_floats([1.0, 2.0, 3.0], &device);
        let bias = Tensor::<1>::from_floats([0.5, 0.0, -1.0], &device);
        // Mean 4, biased variance 26 / 3.
        let scale = (26.0f32 / 3.0 + 1e-2).sqrt().recip();
        let expected = [-3.0 * scale + 0.5, -2.0 * scale, 12.0 * scale - 1.0];
        assert_near(&values(layer_norm(x, weight, Some(bias), 1e-2)), &expected, 1e-6);
    }

    #[test]
    fn a_mean_far_from_zero_costs_no_accuracy() {
        let near = random([1, 4, 64], 1).mul_scalar(1024.0).round();
        let (weight, bias) = (random([64], 2), Some(random([64], 3)));
        // Whole numbers: the shifted rows hold exactly the same distances.
        let far = near.clone() + 1048576.0;
        let expected = values(layer_norm(near, weight.clone(), bias.clone(), 1e-5));
        // The mean itself is rounded, to 1/16 at most, over a spread of 300.
        assert_near(&values(layer_norm(far, weight, bias, 1e-5)), &expected, 3e-4);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let sizes: [&[usize]; 3] = [&[1, 2, 3], &[3], &[3]];
        let points: Vec<Vec<f32>> = (0..3).map(|i| numbers(sizes[i].iter().product(), 1 + i as u32)).collect();
        let of = |points: &[Vec<f32>]| {
            let device = Device::flex().autodiff();
            let vector = |i: usize| Tensor::<1>::from_data(TensorData::new(points[i].clone(), [3]), &device);
            let x = Tensor::<3>::from_data(TensorData::new(points[0].clone(), [1, 2, 3]), &device);
            (x, vector(1), Some(vector(2)))
        };
        let (x, weight, bias) = of(&points);
        let found = passes(layer_norm, x, weight, bias);
        for which in 0..3 {
            let value = |moved: &[f32]| {
                let mut points = points.clone();
                points[which] = moved.to_vec();
                let (x, weight, bias) = of(&points);
                values((layer_norm(x, weight, bias, 1e-2) * random([1, 2, 3], 9)).sum())[0]
            };
            // Differences in f32 over a step of 0.003 leave about 1e-4.
            assert_near(&found[which + 1], &finite_differences(&points[which], 3e-3, value), 3e-4);
        }
    }

    #[test]
    fn a_frozen_bf16_weight_is_read_in_f32() {
        let x = random([1, 5, 12], 1).require_grad();
        let (weight, bias) = (random([12], 2).cast(DType::BF16), random([12], 3).cast(DType::BF16));
        let out = layer_norm(x.clone(), weight.clone(), Some(bias.clone()), 1e-2);
        assert_eq!(out.dtype(), DType::F32);
        let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
        let expected = passes(composed, x.clone(), weight.cast(DType::F32), Some(bias.cast(DType::F32)));
        assert_near(&values(out), &expected[0], 2e-6);
        assert_near(&values(x.grad(&grads).unwrap()), &expected[1], 5e-6);
    }

    #[test]
    fn frozen_inputs_build_no_graph_and_nan_passes() {
        let (x, weight, bias) = (random([1, 2, 3], 1), random([3], 2), random([3], 3));
        assert!(!layer_norm(x.clone(), weight.clone(), None, 1e-5).is_tracked());
        assert!(!layer_norm(x.clone(), weight.clone(), Some(bias.clone()), 1e-5).is_tracked());
        assert!(layer_norm(x.clone(), weight.clone(), Some(bias.clone().require_grad()), 1e-5).is_tracked());
        let x = x.slice_assign([0..1, 1..2, 0..1], Tensor::full([1, 1, 1], f32::NAN, &Device::flex().autodiff()));
        let out = values(layer_norm(x, weight, Some(bias), 1e-5));
        assert!(out[..3].iter().all(|x| x.is_finite()) && out[3..].iter().all(|x| x.is_nan()));
    }

    #[test]
    fn views_are_accepted() {
        let (x, weight) = (random([5, 2, 12], 1).swap_dims(0, 1), random([24], 2));
        let [weight, bias] = [weight.clone().slice_dim(0, 3..15), weight.slice_dim(0, 12..24)];
        let found = passes(layer_norm, x.clone(), weight.clone(), Some(bias.clone()));
        let expected = passes(composed, x, weight, Some(bias));
        for (found, expected) in found.iter().zip(&expected) {
            assert_near(found, expected, 1e-5);
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        in_pools(|| passes(layer_norm, random([3, 130, 70], 1), random([70], 2), Some(random([70], 3))));
    }
}
