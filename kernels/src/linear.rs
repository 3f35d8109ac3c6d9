//! The matrix product of every projection, with the weight as Hugging Face stores it: `[out, in]`.
//!
//! What is unusual: a frozen weight stays in its 16-bit precision and is packed as the product reads it, at most 16 MiB at once, forward
//! and backward. Between the passes only handles are kept: of the weight, and of `x` if the weight learns. A frozen bias is added where
//! a block of the output is written, while it lies in a cache.

use crate::{
    flex::{bias_of, dense, has_fused, matrix, no_bias, tensor, tensor_of, values},
    matmul::{Elements, Matrix, product},
    portable::multiply,
    precision::Precision,
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

/// `y = x W^T`. `x` is `[..., in]` in f32, `weight` is `[out, in]`; the result is f32.
///
/// The products of the backward pass have the same precision. A weight in f16 or bf16 must be frozen.
///
/// # Panics
/// When the inner sizes differ.
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, precision: Precision) -> Tensor<D> {
    linear_with_bias(x, weight, None, precision)
}

/// `y = x W^T + b`, as [`linear`]; `bias` is `[out]` in f32. One that learns is added by an operation of its own.
///
/// # Panics
/// When the sizes differ.
pub fn linear_with_bias<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<D> {
    let (shape, [outputs, inputs]) = (x.dims(), weight.dims());
    assert_eq!(shape[D - 1], inputs, "linear: x is {shape:?}, weight [{outputs}, {inputs}]");
    let fused = has_fused(&x.device());
    let bias = match bias {
        Some(bias) if !fused || bias.is_tracked() => return linear(x, weight, precision) + bias.unsqueeze(),
        Some(bias) => bias,
        None if !fused => return composed(x, weight, precision),
        None => no_bias(&x.device()),
    };
    Tensor::from_dispatch(<Dispatch as LinearBackend>::fused_linear(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        precision,
    ))
}

/// [`linear`] in plain Burn operations. The products of its backward pass read gradients as they are.
pub fn composed<const D: usize>(x: Tensor<D>, weight: Tensor<2>, precision: Precision) -> Tensor<D> {
    let mut shape = x.dims();
    let [outputs, inputs] = weight.dims();
    shape[D - 1] = outputs;
    let rows = precision.round(x.reshape([-1, inputs as i32]));
    // A frozen weight in 16 bits stays so where a device widens what it reads: no dense copy is kept until the backward pass.
    let weight = if reads_stored(&weight) { weight } else { precision.round(weight) };
    multiply(rows, weight.transpose(), precision).reshape(shape)
}

/// Whether products read a weight as it is stored.
fn reads_stored(weight: &Tensor<2>) -> bool {
    #[cfg(feature = "cube")]
    return crate::cube::is_cube(&weight.device()) && !weight.is_tracked();
    #[cfg(not(feature = "cube"))]
    {
        let _ = weight;
        false
    }
}

/// Backends with a fused [`linear`].
#[backend_extension(Flex, Autodiff)]
pub trait LinearBackend: Backend {
    /// See [`linear_with_bias`]; a bias of no numbers is none.
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

impl LinearBackend for Flex {
    fn fused_linear(x: FlexTensor, weight: FlexTensor, bias: FlexTensor, precision: Precision) -> FlexTensor {
        operation!("linear");
        let (x, bias) = (dense(x), dense(bias));
        let weight = matrix(&weight);
        let mut shape = x.layout().shape().clone();
        let rows = shape.num_elements() / weight.columns.max(1);
        let x = Matrix::dense(Elements::F32(values(&x)), rows, weight.columns);
        let out = product(x, weight.transposed(), precision, bias_of(&bias));
        let last = shape.num_dims() - 1;
        shape[last] = weight.rows;
        tensor_of(out, shape)
    }
}

#[derive(Debug)]
struct LinearBackward;

/// What [`LinearBackward`] needs: `x` only where the weight learns.
#[derive(Clone, Debug)]
struct LinearState {
    x: Option<FlexTensor>,
    weight: FlexTensor,
    precision: Precision,
}

impl Backward<Flex, 2> for LinearBackward {
    type State = LinearState;

    fn backward(self, ops: Ops<LinearState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("linear backward");
        let [x_node, weight_node] = ops.parents;
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let LinearState { x, weight, precision } = ops.state;
        let weight = matrix(&weight);
        let mut shape = grad.layout().shape().clone();
        let rows = shape.num_elements() / weight.rows.max(1);
        let view = Matrix::dense(Elements::F32(values(&grad)), rows, weight.rows);
        if let Some(node) = x_node {
            let dx = product(view, weight, precision, None);
            let last = shape.num_dims() - 1;
            shape[last] = weight.columns;
            grads.register::<Flex>(node.id, tensor_of(dx, shape));
        }
        if let (Some(node), Some(x)) = (weight_node, x) {
            let x = Matrix::dense(Elements::F32(values(&x)), rows, weight.columns);
            let d_weight = product(view.transposed(), x, precision, None);
            grads.register::<Flex>(node.id, tensor(d_weight, [weight.rows, weight.columns]));
        }
    }
}

impl<C: CheckpointStrategy> LinearBackend for Autodiff<Flex, C> {
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        assert!(!bias.is_tracked(), "a bias that learns is added by an operation of its own");
        let (learns, bias) = (weight.is_tracked(), bias.into_primitive());
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        assert!(!learns || weight.dtype() == DType::F32, "a weight in {:?} must be frozen", weight.dtype());
        let x = dense(x);
        match LinearBackward.prepare::<C>([x_node, weight_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = Flex::fused_linear(x.clone(), weight.clone(), bias, precision);
                prep.finish(LinearState { x: learns.then_some(x), weight, precision }, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_linear(x, weight, bias, precision)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, finite_differences, in_pools, numbers, random, values};
    use burn::tensor::{Device, TensorData};

    const PRECISE: Precision = Precision::F32;

    /// Output, and gradients of `sum(output * direction)` for `x` and the weight.
    fn passes<const D: usize>(
        form: fn(Tensor<D>, Tensor<2>, Precision) -> Tensor<D>,
        x: Tensor<D>,
        weight: Tensor<2>,
    ) -> [Vec<f32>; 3] {
        let (x, weight) = (x.require_grad(), weight.require_grad());
        let out = form(x.clone(), weight.clone(), PRECISE);
        let direction = random(out.dims(), 9);
        let grads = (out.clone() * direction).sum().backward();
        [values(out), values(x.grad(&grads).unwrap()), values(weight.grad(&grads).unwrap())]
    }

    #[test]
    fn equals_composed() {
        for (rows, inputs, outputs) in [(1, 1, 1), (1, 10, 7), (3, 16, 2), (9, 33, 65), (40, 130, 96)] {
            let (x, weight) = (random([2, rows, inputs], 1), random([outputs, inputs], 2));
            let found = passes(linear, x.clone(), weight.clone());
            let expected = passes(composed, x, weight);
            for (found, expected) in found.iter().zip(&expected) {
                assert_near(found, expected, 2e-6);
            }
        }
    }

    #[test]
    fn views_are_read_in_place() {
        let (x, weight) = (random([6, 2, 5], 1), random([5, 7], 2));
        let (x, weight) = (x.swap_dims(0, 1).slice([0..2, 1..5, 0..5]), weight.transpose());
        let found = values(linear(x.clone(), weight.clone(), PRECISE));
        assert_near(&found, &values(composed(x, weight, PRECISE)), 2e-6);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let (x, weight) = (numbers(6, 1), numbers(12, 2));
        let of = |x: &[f32], weight: &[f32]| {
            let device = Device::flex().autodiff();
            let x = Tensor::<2>::from_data(TensorData::new(x.to_vec(), [2, 3]), &device);
            let weight = Tensor::<2>::from_data(TensorData::new(weight.to_vec(), [4, 3]), &device);
            (x, weight)
        };
        let value = |x: &[f32], weight: &[f32]| {
            let (x, weight) = of(x, weight);
            values((linear(x, weight, PRECISE) * random([2, 4], 9)).sum())[0]
        };
        let (x_tensor, weight_tensor) = of(&x, &weight);
        let [_, dx, d_weight] = passes(linear, x_tensor, weight_tensor);
        assert_near(&dx, &finite_differences(&x, 0.1, |x| value(x, &weight)), 1e-5);
        assert_near(&d_weight, &finite_differences(&weight, 0.1, |weight| value(&x, weight)), 1e-5);
    }

    #[test]
    fn frozen_sixteen_bit_weights_equal_their_wide_copy() {
        for dtype in [DType::BF16, DType::F16] {
            let x = random([2, 9, 40], 1).require_grad();
            let weight = random([24, 40], 2).cast(dtype);
            let out = linear(x.clone(), weight.clone(), PRECISE);
            assert_eq!(out.dtype(), DType::F32);
            let grads = (out.clone() * random([2, 9, 24], 9)).sum().backward();
            let [expected, dx, _] = passes(composed, x.clone(), weight.cast(DType::F32));
            assert_near(&values(out), &expected, 2e-6);
            assert_near(&values(x.grad(&grads).unwrap()), &dx, 2e-6);
        }
    }

    /// In bf16 the operands of every product are rounded, those of the backward pass too.
    #[test]
    fn bf16_passes_are_those_of_rounded_operands() {
        let round = |x: Tensor<2>| x.cast(DType::BF16).cast(DType::F32);
        for dtype in [DType::F32, DType::BF16] {
            let (x, weight) = (random([40, 131], 1).require_grad(), random([96, 131], 2).cast(dtype));
            let weight = if dtype == DType::F32 { weight.require_grad() } else { weight };
            let (out, grad) = (linear(x.clone(), weight.clone(), Precision::Bf16), random([40, 96], 9));
            let grads = (out.clone() * grad.clone()).sum().backward();
            let (x_rounded, w_rounded, grad) = (round(x.clone()), round(weight.clone()), round(grad));
            let expected = x_rounded.clone().matmul(w_rounded.clone().transpose());
            assert_near(&values(out), &values(expected), 2e-6);
            assert_near(&values(x.grad(&grads).unwrap()), &values(grad.clone().matmul(w_rounded).inner()), 2e-6);
            if let Some(found) = weight.grad(&grads) {
                assert_near(&values(found), &values(grad.transpose().matmul(x_rounded).inner()), 2e-6);
            }
        }
    }

    #[test]
    fn every_instruction_set_rounds_alike() {
        crate::cpu::testing::with_each_instruction_set(bf16_passes_are_those_of_rounded_operands);
    }

    /// A bias gives what it gives when it is added by itself, bit for bit, frozen or not, for every way a product goes: few rows, a cache,
    /// few columns, operands packed for all tasks, tasks that pack for themselves, and a depth in parts.
    #[test]
    fn a_bias_is_added_to_whole_sums() {
        crate::cpu::testing::with_each_instruction_set(|| {
            let shapes =
                [(1, 5, 3), (3, 70, 33), (9, 20, 12), (200, 70, 40), (130, 96, 700), (1100, 40, 520), (60, 4200, 97)];
            for (rows, inputs, outputs) in shapes {
                for precision in [Precision::F32, Precision::Bf16] {
                    let (x, weight) = (random([1, rows, inputs], 1), random([outputs, inputs], 2));
                    let bias = random([outputs], 3);
                    let run = |form: &dyn Fn(Tensor<3>) -> Tensor<3>| {
                        let x = x.clone().require_grad();
                        let out = form(x.clone());
                        let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
                        [values(out), values(x.grad(&grads).unwrap())]
                    };
                    let expected = run(&|x| linear(x, weight.clone(), precision) + bias.clone().unsqueeze());
                    let frozen = run(&|x| linear_with_bias(x, weight.clone(), Some(bias.clone()), precision));
                    assert!(frozen == expected, "{rows} x {inputs} x {outputs} in {precision:?}");
                    let learning = bias.clone().require_grad();
                    let learned = run(&|x| linear_with_bias(x, weight.clone(), Some(learning.clone()), precision));
                    assert!(learned == expected, "{rows} x {inputs} x {outputs} in {precision:?}, a bias that learns");
                }
            }
        });
    }

    #[test]
    fn a_bias_that_learns_has_its_gradient() {
        let (x, weight, bias) = (random([2, 5, 3], 1), random([4, 3], 2), random([4], 3).require_grad());
        let out = linear_with_bias(x, weight, Some(bias.clone()), PRECISE);
        let direction = random(out.dims(), 9);
        let grads = (out * direction.clone()).sum().backward();
        let expected = direction.sum_dim(0).sum_dim(1).reshape([4]);
        assert_near(&values(bias.grad(&grads).unwrap()), &values(expected), 1e-6);
    }

    #[test]
    fn frozen_inputs_build_no_graph() {
        let (x, weight) = (random([1, 2, 3], 1), random([4, 3], 2));
        assert!(!linear(x.clone(), weight.clone(), PRECISE).is_tracked());
        assert!(linear(x.clone(), weight.clone().require_grad(), PRECISE).is_tracked());
        let plain = Device::flex();
        let out = linear(x.clone().inner().to_device(&plain), weight.clone().inner().to_device(&plain), PRECISE);
        assert_eq!(values(out), values(linear(x, weight, PRECISE)));
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        in_pools(|| passes(linear, random([3, 70, 130], 1), random([190, 130], 2)));
        let bf16: fn(Tensor<3>, Tensor<2>, Precision) -> Tensor<3> = |x, weight, _| linear(x, weight, Precision::Bf16);
        in_pools(|| passes(bf16, random([3, 70, 130], 1), random([190, 130], 2)));
    }
}
