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

/// `left right` of two stacks of matrices with the same sizes before the last two: `[.., rows, inner]` in f32 and `[.., inner, columns]` in
/// f32, or in f16 or bf16 where it does not learn.
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
        assert!(left.dtype == DType::F32 && is_number(right.dtype), "products are of f32 and stored numbers");
        let out = init_matmul_output(&left, &right, DType::F32);
        let [number, stored] = [DType::F32, right.dtype].map(dtype_to_storage_type);
        let mut numbers = MatmulElems::from_globals(&MatmulGlobalElems { lhs: number, rhs: stored, out: number });
        let client = out.client.clone();
        let (left, right) = (InputBinding::new(left.binding(), number), InputBinding::new(right.binding(), stored));
        if let Err(error) = launch_ref(&routine(precision), &client, left, right, out.clone().binding(), &mut numbers) {
            panic!("a matrix product cannot be launched: {error:?}");
        }
        out
    }
}

/// What a right operand may be stored in: it is widened as tiles of it are read.
fn is_number(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
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
        assert!(!right_learns || right.dtype == DType::F32, "a weight in {:?} must be frozen", right.dtype);
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
