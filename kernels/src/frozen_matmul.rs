//! The matrix product with a quantized weight, forward and the gradient to its input.
//!
//! What is unusual: the dense weight never exists. Codes become numbers as the product packs them, at most 16 MiB at once, in both
//! passes, and between them only a handle is kept, not even `x`. The sums are those of the product with the dequantized weight, bit
//! for bit. The weight is no tensor, so Burn knows nothing of it: it goes into the operation as a plain argument, by handle.
//! Reference: QLoRA (Dettmers et al. 2023, arXiv:2305.14314).

use crate::{
    flex::{bias_of, dense, is_fused, no_bias, tensor_of, values},
    matmul::{Elements, Matrix, product},
    precision::Precision,
    quantized::QuantizedWeight,
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
use std::sync::Arc;

/// `y = x W^T` with a quantized `W [out, in]`. `x` is `[..., in]` in f32; the result is f32.
///
/// # Panics
/// When the inner sizes differ.
pub fn frozen_matmul<const D: usize>(x: Tensor<D>, weight: &Arc<QuantizedWeight>, precision: Precision) -> Tensor<D> {
    frozen_matmul_with_bias(x, weight, None, precision)
}

/// `y = x W^T + b`, as [`frozen_matmul`]; `bias` is `[out]` in f32. One that learns is added by an operation of its own.
///
/// # Panics
/// When the sizes differ.
pub fn frozen_matmul_with_bias<const D: usize>(
    x: Tensor<D>,
    weight: &Arc<QuantizedWeight>,
    bias: Option<Tensor<1>>,
    precision: Precision,
) -> Tensor<D> {
    let (shape, [outputs, inputs]) = (x.dims(), weight.shape());
    assert_eq!(shape[D - 1], inputs, "frozen_matmul: x is {shape:?}, weight [{outputs}, {inputs}]");
    let fused = is_fused(&x.device());
    let bias = match bias {
        Some(bias) if !fused || bias.is_tracked() => return frozen_matmul(x, weight, precision) + bias.unsqueeze(),
        Some(bias) => bias,
        None if !fused => return composed(x, weight, precision),
        None => no_bias(&x.device()),
    };
    Tensor::from_dispatch(<Dispatch as FrozenMatmulBackend>::fused_frozen_matmul(
        x.into_dispatch(),
        weight.clone(),
        bias.into_dispatch(),
        precision,
    ))
}

/// [`frozen_matmul`] in plain Burn operations: the dense weight exists while it runs, and with autodiff until the backward pass.
pub fn composed<const D: usize>(x: Tensor<D>, weight: &Arc<QuantizedWeight>, precision: Precision) -> Tensor<D> {
    let dense = weight.dequantize(&x.device());
    crate::linear::composed(x, dense, precision)
}

/// Backends with a fused [`frozen_matmul`].
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff)]
pub trait FrozenMatmulBackend: Backend {
    /// See [`frozen_matmul_with_bias`]; a bias of no numbers is none.
    fn fused_frozen_matmul(
        x: FloatTensor<Self>,
        weight: Arc<QuantizedWeight>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// `x W^T` or `x W`, whichever `weight` is a view of, and a bias.
fn multiply(x: FlexTensor, weight: Matrix, precision: Precision, bias: Option<&[f32]>) -> FlexTensor {
    let x = dense(x);
    let mut shape = x.layout().shape().clone();
    let rows = shape.num_elements() / weight.rows.max(1);
    let out = product(Matrix::dense(Elements::F32(values(&x)), rows, weight.rows), weight, precision, bias);
    let last = shape.num_dims() - 1;
    shape[last] = weight.columns;
    tensor_of(out, shape)
}

fn matrix(weight: &QuantizedWeight) -> Matrix<'_> {
    let [outputs, inputs] = weight.shape();
    Matrix::dense(Elements::Quantized(weight, 0), outputs, inputs)
}

impl FrozenMatmulBackend for Flex {
    fn fused_frozen_matmul(
        x: FlexTensor,
        weight: Arc<QuantizedWeight>,
        bias: FlexTensor,
        precision: Precision,
    ) -> FlexTensor {
        operation!("frozen_matmul");
        multiply(x, matrix(&weight).transposed(), precision, bias_of(&dense(bias)))
    }
}

#[derive(Debug)]
struct FrozenMatmulBackward;

impl Backward<Flex, 1> for FrozenMatmulBackward {
    type State = (Arc<QuantizedWeight>, Precision);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("frozen_matmul backward");
        let [x_node] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node);
        if let Some(node) = x_node {
            let (weight, precision) = ops.state;
            grads.register::<Flex>(node.id, multiply(grad, matrix(&weight), precision, None));
        }
    }
}

impl<C: CheckpointStrategy> FrozenMatmulBackend for Autodiff<Flex, C> {
    fn fused_frozen_matmul(
        x: FloatTensor<Self>,
        weight: Arc<QuantizedWeight>,
        bias: FloatTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        assert!(!bias.is_tracked(), "a bias that learns is added by an operation of its own");
        let (x, x_node) = x.into_parts();
        let out = Flex::fused_frozen_matmul(x, weight.clone(), bias.into_primitive(), precision);
        match FrozenMatmulBackward.prepare::<C>([x_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((weight, precision), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::testing::with_each_instruction_set,
        linear,
        quantized::{FourBit, QuantizationScheme},
        testing::{assert_near, in_pools, numbers, random, values},
    };
    use burn::tensor::{Device, TensorData};

    const PRECISE: Precision = Precision::F32;
    const SCHEMES: [QuantizationScheme; 4] = [
        QuantizationScheme::NF4,
        QuantizationScheme::INT8,
        QuantizationScheme::FourBit { code: FourBit::Fp4, block: 32, double: false },
        QuantizationScheme::FourBit { code: FourBit::Nf4, block: 128, double: false },
    ];
    /// Rows, inputs, outputs: lengths that no block divides, odd ones, and few rows.
    const SHAPES: [(usize, usize, usize); 8] =
        [(1, 1, 1), (1, 65, 70), (4, 70, 33), (3, 7, 5), (20, 64, 64), (97, 513, 67), (9, 33, 257), (6, 300, 12)];

    fn quantized(outputs: usize, inputs: usize, scheme: QuantizationScheme) -> Arc<QuantizedWeight> {
        let values = TensorData::new(numbers(outputs * inputs, 2), [outputs, inputs]);
        Arc::new(QuantizedWeight::quantize(&values, scheme).unwrap())
    }

    /// Output, and the gradient of `sum(output * direction)` for `x`.
    fn passes<const D: usize>(form: impl Fn(Tensor<D>) -> Tensor<D>, x: Tensor<D>) -> [Vec<f32>; 2] {
        let x = x.require_grad();
        let out = form(x.clone());
        let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
        [values(out), values(x.grad(&grads).unwrap())]
    }

    fn equals_the_dense_product() {
        for scheme in SCHEMES {
            for (rows, inputs, outputs) in SHAPES {
                let (x, weight) = (random([1, rows, inputs], 1), quantized(outputs, inputs, scheme));
                let found = passes(|x| frozen_matmul(x, &weight, PRECISE), x.clone());
                let dense = weight.dequantize(&Device::flex().autodiff());
                assert!(
                    found == passes(|x| linear(x, dense.clone(), PRECISE), x),
                    "{scheme:?} {rows} {inputs} {outputs}"
                );
            }
        }
    }

    #[test]
    fn in_bf16_it_is_the_product_with_the_dequantized_weight_bit_for_bit() {
        crate::cpu::testing::with_each_instruction_set(|| {
            for (scheme, (rows, inputs, outputs)) in
                SCHEMES.into_iter().flat_map(|scheme| SHAPES.map(|shape| (scheme, shape)))
            {
                let (x, weight) = (random([1, rows, inputs], 1), quantized(outputs, inputs, scheme));
                let found = passes(|x| frozen_matmul(x, &weight, Precision::Bf16), x.clone());
                let dense = weight.dequantize(&Device::flex().autodiff());
                let expected = passes(|x| linear(x, dense.clone(), Precision::Bf16), x);
                assert!(found == expected, "{scheme:?} {rows} {inputs} {outputs}");
            }
        });
    }

    #[test]
    fn equals_the_product_with_the_dequantized_weight_bit_for_bit() {
        equals_the_dense_product();
    }

    #[test]
    fn every_instruction_set_equals_the_dense_product() {
        with_each_instruction_set(equals_the_dense_product);
    }

    #[test]
    fn equals_composed() {
        for (rows, inputs, outputs) in SHAPES {
            let (x, weight) = (random([2, rows, inputs], 1), quantized(outputs, inputs, QuantizationScheme::NF4));
            let found = passes(|x| frozen_matmul(x, &weight, PRECISE), x.clone());
            let expected = passes(|x| composed(x, &weight, PRECISE), x);
            for (found, expected) in found.iter().zip(&expected) {
                assert_near(found, expected, 2e-6);
            }
        }
    }

    #[test]
    fn a_bias_is_added_to_whole_sums() {
        for (rows, inputs, outputs) in SHAPES.into_iter().chain([(130, 64, 600)]) {
            let (x, weight) = (random([1, rows, inputs], 1), quantized(outputs, inputs, QuantizationScheme::NF4));
            let bias = random([outputs], 3);
            let found = passes(|x| frozen_matmul_with_bias(x, &weight, Some(bias.clone()), PRECISE), x.clone());
            let expected = passes(|x| frozen_matmul(x, &weight, PRECISE) + bias.clone().unsqueeze(), x.clone());
            assert!(found == expected, "{rows} {inputs} {outputs}");
            let learning = bias.require_grad();
            let learned = passes(|x| frozen_matmul_with_bias(x, &weight, Some(learning.clone()), PRECISE), x);
            assert!(learned == expected, "{rows} {inputs} {outputs}, a bias that learns");
        }
    }

    #[test]
    fn views_are_accepted() {
        let weight = quantized(7, 5, QuantizationScheme::NF4);
        let x = random([6, 2, 5], 1).swap_dims(0, 1);
        assert_near(&values(frozen_matmul(x.clone(), &weight, PRECISE)), &values(composed(x, &weight, PRECISE)), 2e-6);
    }

    #[test]
    fn frozen_inputs_build_no_graph() {
        let (x, weight) = (random([1, 2, 3], 1), quantized(4, 3, QuantizationScheme::NF4));
        assert!(!frozen_matmul(x.clone(), &weight, PRECISE).is_tracked());
        assert!(frozen_matmul(x.clone().require_grad(), &weight, PRECISE).is_tracked());
        let plain = frozen_matmul(x.clone().inner(), &weight, PRECISE);
        assert_eq!(values(plain), values(frozen_matmul(x, &weight, PRECISE)));
    }

    #[test]
    fn only_a_handle_is_kept_for_the_backward_pass() {
        let weight = quantized(4, 3, QuantizationScheme::NF4);
        let x = random([1, 2, 3], 1).require_grad();
        let out = frozen_matmul(x.clone(), &weight, PRECISE);
        assert_eq!(Arc::strong_count(&weight), 2);
        let grads = out.sum().backward();
        assert_eq!(Arc::strong_count(&weight), 1);
        assert!(x.grad(&grads).is_some());
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let weight = quantized(190, 130, QuantizationScheme::NF4);
        in_pools(|| passes(|x| frozen_matmul(x, &weight, PRECISE), random([3, 70, 130], 1)));
    }
}
