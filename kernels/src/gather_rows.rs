//! Rows of a matrix for several readers: the tokens of each expert of a mixture (Shazeer et al. 2017, arXiv:1701.06538).
//!
//! The gradients of all readers come together in one matrix. Burn's `select` makes a matrix of the shape of `x` for each reader, so its
//! backward pass costs readers times rows; here it costs the rows that were read, added up reader by reader.
//!
//! Not here: the way back, which is `mix_rows`.

use crate::{
    flex::{dense, has_fused, tensor, values},
    parts::{Parts, tracked},
    work::operation,
};
use burn::{
    backend::{
        Autodiff, Backend, Dispatch, Flex, TensorMetadata, autodiff::checkpoint::strategy::CheckpointStrategy,
        backend_extension, tensor::FloatTensor,
    },
    tensor::{Int, Tensor, TensorData},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use std::sync::Arc;

/// For each list the rows of `x` `[rows, width]` it names, in its order: `[list.len(), width]`, in f32.
///
/// A row may be in several lists, and in one list several times. An empty list gives an empty tensor.
///
/// # Panics
/// When a list names a row that `x` does not have.
pub fn gather_rows(x: Tensor<2>, lists: Vec<Vec<usize>>) -> Vec<Tensor<2>> {
    let rows = x.dims()[0];
    let outside = lists.iter().flatten().find(|row| **row >= rows);
    if let Some(row) = outside {
        panic!("row {row} of a matrix of {rows} rows");
    }
    if !has_fused(&x.device()) {
        return composed(x, lists);
    }
    let parts = <Dispatch as GatherRowsBackend>::fused_gather_rows(x.into_dispatch(), lists);
    parts.into_iter().map(Tensor::from_dispatch).collect()
}

/// [`gather_rows`] in plain Burn operations.
pub fn composed(x: Tensor<2>, lists: Vec<Vec<usize>>) -> Vec<Tensor<2>> {
    let select = |list: Vec<usize>| {
        let (count, rows) = (list.len(), list.into_iter().map(|row| row as i64).collect::<Vec<_>>());
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &x.device());
        x.clone().select(0, rows)
    };
    lists.into_iter().map(select).collect()
}

/// Backends with a fused [`gather_rows`].
#[backend_extension(Flex, Autodiff)]
pub trait GatherRowsBackend: Backend {
    /// See [`gather_rows`].
    fn fused_gather_rows(x: FloatTensor<Self>, lists: Vec<Vec<usize>>) -> Vec<FloatTensor<Self>>;
}

impl GatherRowsBackend for Flex {
    fn fused_gather_rows(x: FlexTensor, lists: Vec<Vec<usize>>) -> Vec<FlexTensor> {
        let x = dense(x);
        Lists::of(&x, lists).take(&x)
    }
}

/// The rows of each part, and the shape of the whole.
#[derive(Clone, Debug)]
struct Lists {
    lists: Arc<Vec<Vec<usize>>>,
    shape: [usize; 2],
}

impl Lists {
    fn of(x: &impl TensorMetadata, lists: Vec<Vec<usize>>) -> Self {
        let shape = x.shape();
        Self { lists: Arc::new(lists), shape: [shape[0], shape[1]] }
    }
}

impl Parts for Lists {
    fn take(&self, x: &FlexTensor) -> Vec<FlexTensor> {
        operation!("gather_rows");
        let (values, [_, width]) = (values(x), self.shape);
        let part = |list: &Vec<usize>| {
            let mut part = Vec::with_capacity(list.len() * width);
            for row in list {
                part.extend_from_slice(&values[row * width..][..width]);
            }
            tensor(part, [list.len(), width])
        };
        self.lists.par_iter().map(part).collect()
    }

    fn join(&self, parts: Vec<Option<FlexTensor>>) -> FlexTensor {
        operation!("gather_rows backward");
        let [rows, width] = self.shape;
        let mut d_x = vec![0.0; rows * width];
        for (list, grad) in self.lists.iter().zip(parts) {
            let Some(grad) = grad else { continue };
            for (row, grad) in list.iter().zip(values(&grad).chunks_exact(width.max(1))) {
                for (sum, grad) in d_x[row * width..][..width].iter_mut().zip(grad) {
                    *sum += grad;
                }
            }
        }
        tensor(d_x, [rows, width])
    }
}

impl<C: CheckpointStrategy> GatherRowsBackend for Autodiff<Flex, C> {
    fn fused_gather_rows(x: FloatTensor<Self>, lists: Vec<Vec<usize>>) -> Vec<FloatTensor<Self>> {
        let lists = Lists::of(&x, lists);
        tracked::<C, _>(x, lists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, in_pools, random, values};

    type Form = fn(Tensor<2>, Vec<Vec<usize>>) -> Vec<Tensor<2>>;

    /// The parts, and the gradient of `x` for a different direction at each part.
    fn passes(form: Form, x: Tensor<2>, lists: &[Vec<usize>]) -> Vec<Vec<f32>> {
        let x = x.require_grad();
        let parts = form(x.clone(), lists.to_vec());
        let used = parts.iter().zip(10..).filter(|(part, _)| part.dims()[0] > 0);
        let sums = used.map(|(part, seed)| (part.clone() * random(part.dims(), seed)).sum());
        let grads = sums.reduce(|a, b| a + b).unwrap().backward();
        let gradient = values(x.grad(&grads).unwrap());
        parts.into_iter().map(values).chain([gradient]).collect()
    }

    fn routes(rows: usize, experts: usize) -> Vec<Vec<usize>> {
        (0..experts).map(|expert| (0..rows).filter(|row| (row * row + expert) % 4 < 2).collect()).collect()
    }

    #[test]
    fn equals_composed() {
        let repeated = vec![vec![3, 3, 0, 4, 3], vec![4]];
        for (rows, width, lists) in
            [(1, 1, vec![vec![0]]), (5, 3, repeated), (50, 7, routes(50, 8)), (9, 4, vec![vec![], vec![8, 0], vec![]])]
        {
            let found = passes(gather_rows, random([rows, width], 1), &lists);
            let expected = passes(composed, random([rows, width], 1), &lists);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_near(found, expected, 1e-6);
            }
        }
    }

    #[test]
    fn a_part_that_nobody_reads_has_no_gradient() {
        let x = random([4, 3], 1).require_grad();
        let parts = gather_rows(x.clone(), vec![vec![0, 1], vec![1, 2], vec![3]]);
        let grads = parts[1].clone().sum().backward();
        let expected = [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        assert_eq!(values(x.grad(&grads).unwrap()), expected);
    }

    #[test]
    fn other_uses_of_the_matrix_add_their_gradients() {
        let gradient = |form: Form| {
            let leaf = random([6, 3], 1).require_grad();
            let x = leaf.clone() * leaf.clone();
            let parts = form(x.clone(), vec![vec![5, 1], vec![1, 2]]);
            let twice = form(parts[0].clone() * 3.0, vec![vec![1, 1], vec![0]]);
            let loss = (twice[0].clone() * twice[0].clone()).sum() + twice[1].clone().sum() + parts[1].clone().sum();
            let grads = (loss + (x * random([6, 3], 2)).sum()).backward();
            values(leaf.grad(&grads).unwrap())
        };
        assert_near(&gradient(gather_rows), &gradient(composed), 1e-6);
    }

    #[test]
    fn views_are_accepted_and_frozen_inputs_build_no_graph() {
        let x = random([7, 12], 1).transpose().slice([2..9, 1..6]);
        let lists = vec![vec![6, 0, 2], vec![5]];
        assert!(gather_rows(x.clone(), lists.clone()).iter().all(|part| !part.is_tracked()));
        assert_eq!(passes(gather_rows, x.clone(), &lists), passes(composed, x, &lists));
    }

    #[test]
    #[should_panic(expected = "row 3 of a matrix of 3 rows")]
    fn a_row_outside_the_matrix_is_refused() {
        gather_rows(random([3, 2], 1), vec![vec![0, 3]]);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        in_pools(|| passes(gather_rows, random([300, 33], 1), &routes(300, 8)));
    }
}
