//! The matrix product in f32, which stays in f32.
//!
//! What is unusual: Burn lets `cubek` choose a routine, and `cubek` tries matrix units first, for which it rounds f32 to TF32 (10 bits of
//! mantissa in place of 23) where a device has them. [`Precision::Tf32`] takes that choice. Any other precision names the routine that
//! multiplies and adds f32 numbers in the units' own registers, forward and backward. Its sums have one order, so the same device gives
//! the same bits again.

use burn::{
    backend::{
        Autodiff, Backend, Dispatch,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        cubecl::dtype_to_storage_type,
        ops::FloatTensorOps,
        tensor::FloatTensor,
    },
    tensor::{DType, Tensor},
};
use burn_cubecl::{CubeBackend, kernel::matmul::init_matmul_output, tensor::CubeTensor};
use cubek::{
    matmul::{
        definition::{MatmulElems, MatmulGlobalElems},
        launch::launch_ref,
        multi_level,
        strategy::Strategy,
    },
    std::InputBinding,
};

use crate::precision::Precision;

/// `left right` of two stacks of matrices in f32 with the same sizes before the last two: `[.., rows, inner]` and `[.., inner, columns]`.
pub(crate) fn multiply<const D: usize>(left: Tensor<D>, right: Tensor<D>, precision: Precision) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as ProductBackend>::product(left.into_dispatch(), right.into_dispatch(), precision))
}

/// Backends with a product whose routine can be named.
#[backend_extension(Cube, Autodiff)]
pub trait ProductBackend: Backend {
    /// See [`multiply`].
    fn product(left: FloatTensor<Self>, right: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self>;
}

fn routine(precision: Precision) -> Strategy {
    match precision {
        Precision::F32 | Precision::Bf16 => multi_level::Strategy::SimpleUnit(Default::default()).into(),
        Precision::Tf32 => Strategy::Auto,
    }
}

impl ProductBackend for CubeBackend {
    fn product(left: CubeTensor, right: CubeTensor, precision: Precision) -> CubeTensor {
        assert_eq!((left.dtype, right.dtype), (DType::F32, DType::F32), "products are of f32 numbers");
        let out = init_matmul_output(&left, &right, DType::F32);
        let number = dtype_to_storage_type(DType::F32);
        let mut numbers = MatmulElems::from_globals(&MatmulGlobalElems { lhs: number, rhs: number, out: number });
        let client = out.client.clone();
        let operands = [left, right].map(|operand| InputBinding::new(operand.binding(), number));
        let [left, right] = operands;
        if let Err(error) = launch_ref(&routine(precision), &client, left, right, out.clone().binding(), &mut numbers) {
            panic!("a matrix product cannot be launched: {error:?}");
        }
        out
    }
}

#[derive(Debug)]
struct ProductBackward;

/// What [`ProductBackward`] needs: each operand where the other one learns.
#[derive(Clone, Debug)]
struct ProductState {
    left: Option<CubeTensor>,
    right: Option<CubeTensor>,
    precision: Precision,
}

/// With its last two dimensions exchanged, as a view.
fn transposed(matrices: CubeTensor) -> CubeTensor {
    let last = matrices.meta.shape().num_dims() - 1;
    CubeBackend::float_swap_dims(matrices, last - 1, last)
}

impl Backward<CubeBackend, 2> for ProductBackward {
    type State = ProductState;

    fn backward(self, ops: Ops<ProductState, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [left_node, right_node] = ops.parents;
        let grad = grads.consume::<CubeBackend>(&ops.node);
        let ProductState { left, right, precision } = ops.state;
        if let (Some(node), Some(right)) = (left_node, right) {
            let d_left = CubeBackend::product(grad.clone(), transposed(right), precision);
            grads.register::<CubeBackend>(node.id, d_left);
        }
        if let (Some(node), Some(left)) = (right_node, left) {
            let d_right = CubeBackend::product(transposed(left), grad, precision);
            grads.register::<CubeBackend>(node.id, d_right);
        }
    }
}

impl<C: CheckpointStrategy> ProductBackend for Autodiff<CubeBackend, C> {
    fn product(left: FloatTensor<Self>, right: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self> {
        let (left_learns, right_learns) = (left.is_tracked(), right.is_tracked());
        let ((left, left_node), (right, right_node)) = (left.into_parts(), right.into_parts());
        match ProductBackward.prepare::<C>([left_node, right_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = CubeBackend::product(left.clone(), right.clone(), precision);
                let state =
                    ProductState { left: right_learns.then_some(left), right: left_learns.then_some(right), precision };
                prep.finish(state, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(CubeBackend::product(left, right, precision)),
        }
    }
}
