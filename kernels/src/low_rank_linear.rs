//! A frozen linear map with an update of low rank: `y = x W^T + s (x A^T) B^T`, as LoRA has it (Hu et al. 2021, arXiv:2106.09685).
//!
//! The update costs little beside the map: `x` is packed once for `W` and `A`, and `[x, s x A^T]` meets `[W, B]` in one product, so the
//! update is summed in the same registers. The backward pass does the same with `[dy, s dy B]` and `[W, A]`. Kept are handles of `x`,
//! the weight and the factors, and the narrow `s x A^T`. `W` may be dense in f32, f16 or bf16, or quantized.

use crate::{
    cpu::{BlockMut, Fresh},
    flex::{bias_of, dense, has_fused, matrix, no_bias, tensor, tensor_of, values},
    frozen_matmul::frozen_matmul,
    linear::linear,
    matmul::{Elements, FEW_ROWS, Matrix, Panels, Store, multiply, product},
    precision::Precision,
    quantized::QuantizedWeight,
    sums::sum_vectors,
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
use std::sync::Arc;

/// A weight `[out, in]` that is not trained, or to which gradients go the long way.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // The argument of one call: nobody holds many.
pub enum FrozenWeight {
    /// In f32, f16 or bf16.
    Dense(Tensor<2>),
    /// In codes.
    Quantized(Arc<QuantizedWeight>),
}

impl FrozenWeight {
    /// `x W^T`.
    fn product<const D: usize>(&self, x: Tensor<D>, precision: Precision) -> Tensor<D> {
        match self {
            Self::Dense(weight) => linear(x, weight.clone(), precision),
            Self::Quantized(weight) => frozen_matmul(x, weight, precision),
        }
    }

    /// Whether it is trained after all: the update then comes by itself.
    fn learns(&self) -> bool {
        match self {
            Self::Dense(weight) => weight.is_tracked(),
            Self::Quantized(_) => false,
        }
    }

    fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.dims(),
            Self::Quantized(weight) => weight.shape(),
        }
    }
}

/// `y = x W^T + scale (x A^T) B^T`. `x` is `[..., in]` in f32, `a` is `[rank, in]`, `b` `[out, rank]`; the result is f32.
///
/// With [`Precision::Bf16`] the operands of the products that have `y` and the gradient of `x` are rounded, those of the update too. The
/// gradients of `a` and `b` are products of f32.
///
/// # Panics
/// When the inner sizes differ.
pub fn low_rank_linear<const D: usize>(
    x: Tensor<D>,
    weight: FrozenWeight,
    factors: [Tensor<2>; 2],
    scale: f64,
    precision: Precision,
) -> Tensor<D> {
    low_rank_linear_with_bias(x, weight, factors, None, scale, precision)
}

/// [`low_rank_linear`] plus a bias `[out]` in f32. One that learns is added by an operation of its own.
///
/// # Panics
/// When the sizes differ.
pub fn low_rank_linear_with_bias<const D: usize>(
    x: Tensor<D>,
    weight: FrozenWeight,
    [a, b]: [Tensor<2>; 2],
    bias: Option<Tensor<1>>,
    scale: f64,
    precision: Precision,
) -> Tensor<D> {
    let ([rank, inputs], [outputs, of_b]) = (a.dims(), b.dims());
    assert!(
        x.dims()[D - 1] == inputs && weight.shape() == [outputs, inputs] && of_b == rank,
        "low_rank_linear: x is {:?}, weight {:?}, factors [{rank}, {inputs}] and [{outputs}, {of_b}]",
        x.dims(),
        weight.shape()
    );
    let fused = has_fused(&x.device()) && !weight.learns();
    let bias = match bias {
        Some(bias) if !fused || bias.is_tracked() => {
            return low_rank_linear(x, weight, [a, b], scale, precision) + bias.unsqueeze();
        }
        Some(bias) => bias,
        None if !fused => return composed(x, weight, [a, b], scale, precision),
        None => no_bias(&x.device()),
    };
    let (x, a, b) = (x.into_dispatch(), a.into_dispatch(), b.into_dispatch());
    let (bias, scale) = (bias.into_dispatch(), scale as f32);
    Tensor::from_dispatch(match weight {
        FrozenWeight::Dense(weight) => {
            <Dispatch as LowRankBackend>::fused_low_rank(x, weight.into_dispatch(), a, b, bias, scale, precision)
        }
        FrozenWeight::Quantized(weight) => {
            <Dispatch as LowRankBackend>::fused_low_rank_quantized(x, weight, a, b, bias, scale, precision)
        }
    })
}

/// [`low_rank_linear`] by three maps, each an operation.
pub fn composed<const D: usize>(
    x: Tensor<D>,
    weight: FrozenWeight,
    [a, b]: [Tensor<2>; 2],
    scale: f64,
    precision: Precision,
) -> Tensor<D> {
    let narrow = linear(x.clone(), a, precision) * scale;
    weight.product(x, precision) + linear(narrow, b, precision)
}

/// Backends with a fused [`low_rank_linear`].
#[backend_extension(Flex, Autodiff)]
pub trait LowRankBackend: Backend {
    /// See [`low_rank_linear_with_bias`]; a bias of no numbers is none.
    fn fused_low_rank(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale: f32,
        precision: Precision,
    ) -> FloatTensor<Self>;
    /// See [`low_rank_linear_with_bias`]; a bias of no numbers is none.
    fn fused_low_rank_quantized(
        x: FloatTensor<Self>,
        weight: Arc<QuantizedWeight>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale: f32,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

/// Everything but `x`.
#[derive(Debug, Clone)]
struct Map {
    weight: Held,
    a: FlexTensor,
    b: FlexTensor,
    bias: FlexTensor,
    scale: f32,
    precision: Precision,
}

/// The handle of a weight.
#[derive(Debug, Clone)]
enum Held {
    Dense(FlexTensor),
    Quantized(Arc<QuantizedWeight>),
}

impl Held {
    fn matrix(&self) -> Matrix<'_> {
        match self {
            Self::Dense(weight) => matrix(weight),
            Self::Quantized(weight) => {
                let [outputs, inputs] = weight.shape();
                Matrix::dense(Elements::Quantized(weight, 0), outputs, inputs)
            }
        }
    }
}

impl Map {
    /// `[left [wide; narrow_right], narrow]`, where `narrow = scale left narrow_left` is put beside `left`. The bias is added to the first.
    fn through(
        &self,
        left: Matrix,
        [wide, narrow_left, narrow_right]: [Matrix; 3],
        bias: Option<&[f32]>,
    ) -> [Vec<f32>; 2] {
        let (rows, rank, columns) = (left.rows, narrow_left.columns, wide.columns);
        if rows <= FEW_ROWS {
            let narrow = self.narrow(left, narrow_left);
            let mut out = product(left, wide, self.precision, None);
            let view = Matrix::dense(Elements::F32(&narrow), rows, rank);
            let update = product(view, narrow_right, self.precision, None);
            out.iter_mut().zip(&update).for_each(|(out, update)| *out += update);
            for row in out.chunks_exact_mut(columns.max(1)) {
                row.iter_mut().zip(bias.into_iter().flatten()).for_each(|(out, bias)| *out += bias);
            }
            return [out, narrow];
        }
        let (mut out, mut all_narrow) = (Fresh::new(rows * columns), vec![0.0; rows * rank]);
        let size = Panels::most_rows(self.precision, left.columns + rank);
        for (index, mut out) in out.block(rows, columns).in_rows(size).enumerate() {
            let rows = index * size..index * size + out.rows();
            let narrow = &mut all_narrow[rows.start * rank..rows.end * rank];
            Panels::with(self.precision, left.with_rows(rows.clone()), rank, |panels| {
                let mut block = BlockMut::new(narrow, rank, rows.len(), rank);
                panels.multiply(&mut block, &[narrow_left], Store::Replace, None);
                narrow.iter_mut().for_each(|value| *value *= self.scale);
                panels.append(Matrix::dense(Elements::F32(narrow), rows.len(), rank));
                panels.multiply(&mut out, &[wide, narrow_right], Store::Replace, bias);
            });
        }
        [out.finish(), all_narrow]
    }

    /// `scale left right`.
    fn narrow(&self, left: Matrix, right: Matrix) -> Vec<f32> {
        let mut narrow = product(left, right, self.precision, None);
        narrow.iter_mut().for_each(|value| *value *= self.scale);
        narrow
    }

    /// The output, and `scale x A^T`.
    fn forward(&self, x: &FlexTensor) -> (FlexTensor, Vec<f32>) {
        operation!("low_rank_linear");
        let (weight, a, b) = (self.weight.matrix(), matrix(&self.a), matrix(&self.b));
        let (x, mut shape) = (rows(x, weight.columns), x.layout().shape().clone());
        let [out, narrow] = self.through(x, [weight.transposed(), a.transposed(), b.transposed()], bias_of(&self.bias));
        let last = shape.num_dims() - 1;
        shape[last] = weight.rows;
        (tensor_of(out, shape), narrow)
    }
}

/// The rows of a dense tensor whose last axis has so many numbers.
fn rows(x: &FlexTensor, columns: usize) -> Matrix<'_> {
    let all = values(x);
    Matrix::dense(Elements::F32(all), all.len() / columns.max(1), columns)
}

/// Fewest rows of which one task sums the gradient of a factor, and most tasks. Part of the result: sums of tasks are added in order.
const GRADIENT_ROWS: usize = 256;
const GRADIENT_TASKS: usize = 16;

/// `wide^T narrow` in f32, `[columns of wide, columns of narrow]`. Tasks take rows, so that each reads what lies together.
fn gradient(wide: Matrix, narrow: Matrix) -> Vec<f32> {
    let size = wide.rows.div_ceil(GRADIENT_TASKS).max(GRADIENT_ROWS);
    let len = wide.columns * narrow.columns;
    let tasks = (0..wide.rows.div_ceil(size)).into_par_iter().with_max_len(1).map(|task| {
        let rows = task * size..((task + 1) * size).min(wide.rows);
        let mut sums = vec![0.0; len];
        let left = wide.with_rows(rows.clone()).transposed();
        multiply(&mut sums, narrow.columns, left, narrow.with_rows(rows), Store::Replace, Precision::F32);
        sums
    });
    sum_vectors(tasks.collect::<Vec<_>>(), len)
}

/// The transpose of `[rows, columns]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

#[derive(Debug)]
struct LowRankBackward;

/// What [`LowRankBackward`] needs.
#[derive(Clone, Debug)]
struct LowRankState {
    map: Map,
    x: FlexTensor,
    /// `scale x A^T`.
    narrow: Arc<Vec<f32>>,
}

impl Backward<Flex, 3> for LowRankBackward {
    type State = LowRankState;

    fn backward(self, ops: Ops<LowRankState, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("low_rank_linear backward");
        let [x_node, a_node, b_node] = ops.parents;
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let LowRankState { map, x, narrow } = ops.state;
        let (weight, a, b) = (map.weight.matrix(), matrix(&map.a), matrix(&map.b));
        let ([rank, inputs], outputs) = ([a.rows, a.columns], weight.rows);
        let (d_out, x_rows) = (rows(&grad, outputs), rows(&x, inputs));
        if let Some(node) = b_node {
            let d_b = gradient(d_out, Matrix::dense(Elements::F32(&narrow), d_out.rows, rank));
            grads.register::<Flex>(node.id, tensor(d_b, [outputs, rank]));
        }
        let d_narrow = match x_node {
            Some(node) => {
                let [d_x, d_narrow] = map.through(d_out, [weight, b, a], None);
                grads.register::<Flex>(node.id, tensor_of(d_x, x.layout().shape().clone()));
                d_narrow
            }
            None => map.narrow(d_out, b),
        };
        if let Some(node) = a_node {
            let d_a = gradient(x_rows, Matrix::dense(Elements::F32(&d_narrow), d_out.rows, rank));
            grads.register::<Flex>(node.id, tensor(transposed(&d_a, inputs, rank), [rank, inputs]));
        }
    }
}

impl LowRankBackend for Flex {
    fn fused_low_rank(
        x: FlexTensor,
        weight: FlexTensor,
        a: FlexTensor,
        b: FlexTensor,
        bias: FlexTensor,
        scale: f32,
        precision: Precision,
    ) -> FlexTensor {
        Map { weight: Held::Dense(weight), a, b, bias: dense(bias), scale, precision }.forward(&dense(x)).0
    }

    fn fused_low_rank_quantized(
        x: FlexTensor,
        weight: Arc<QuantizedWeight>,
        a: FlexTensor,
        b: FlexTensor,
        bias: FlexTensor,
        scale: f32,
        precision: Precision,
    ) -> FlexTensor {
        Map { weight: Held::Quantized(weight), a, b, bias: dense(bias), scale, precision }.forward(&dense(x)).0
    }
}

impl<C: CheckpointStrategy> LowRankBackend for Autodiff<Flex, C> {
    fn fused_low_rank(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale: f32,
        precision: Precision,
    ) -> FloatTensor<Self> {
        assert!(!weight.is_tracked(), "the weight under a low-rank update is frozen");
        tracked::<C>(x, Held::Dense(weight.into_parts().0), [a, b], bias, scale, precision)
    }

    fn fused_low_rank_quantized(
        x: FloatTensor<Self>,
        weight: Arc<QuantizedWeight>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        scale: f32,
        precision: Precision,
    ) -> FloatTensor<Self> {
        tracked::<C>(x, Held::Quantized(weight), [a, b], bias, scale, precision)
    }
}

fn tracked<C: CheckpointStrategy>(
    x: FloatTensor<Autodiff<Flex, C>>,
    weight: Held,
    [a, b]: [FloatTensor<Autodiff<Flex, C>>; 2],
    bias: FloatTensor<Autodiff<Flex, C>>,
    scale: f32,
    precision: Precision,
) -> FloatTensor<Autodiff<Flex, C>> {
    assert!(!bias.is_tracked(), "a bias that learns is added by an operation of its own");
    let bias = dense(bias.into_primitive());
    let [(x, x_node), (a, a_node), (b, b_node)] = [x.into_parts(), a.into_parts(), b.into_parts()];
    let (x, map) = (dense(x), Map { weight, a, b, bias, scale, precision });
    match LowRankBackward.prepare::<C>([x_node, a_node, b_node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let (out, narrow) = map.forward(&x);
            prep.finish(LowRankState { map, x, narrow: Arc::new(narrow) }, out)
        }
        OpsKind::UnTracked(prep) => prep.finish(map.forward(&x).0),
    }
}

#[cfg(test)]
mod tests;
