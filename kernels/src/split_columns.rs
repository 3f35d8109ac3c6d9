//! The columns of a matrix in several parts: queries, keys and values of one fused map, gate and up of another.
//!
//! Each part is copied once, and the gradients of all parts are written into one matrix. Slices of Burn make a matrix of zeros of the
//! whole shape for each part, and add them.

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
    tensor::Tensor,
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Of `x` `[rows, width]` in f32 the first `sizes[0]` columns, the next `sizes[1]`, and so on, each `[rows, size]`.
///
/// # Panics
/// When the sizes are not as many columns as there are.
pub fn split_columns(x: Tensor<2>, sizes: &[usize]) -> Vec<Tensor<2>> {
    let width = x.dims()[1];
    assert_eq!(sizes.iter().sum::<usize>(), width, "parts of {sizes:?} columns of {width}");
    if !has_fused(&x.device()) {
        return composed(x, sizes);
    }
    let parts = <Dispatch as SplitColumnsBackend>::fused_split_columns(x.into_dispatch(), sizes.to_vec());
    parts.into_iter().map(Tensor::from_dispatch).collect()
}

/// [`split_columns`] in plain Burn operations.
pub fn composed(x: Tensor<2>, sizes: &[usize]) -> Vec<Tensor<2>> {
    let mut end = 0;
    let part = |size: &usize| {
        end += size;
        x.clone().slice_dim(1, end - size..end)
    };
    sizes.iter().map(part).collect()
}

/// Backends with a fused [`split_columns`].
#[backend_extension(Flex, Autodiff)]
pub trait SplitColumnsBackend: Backend {
    /// See [`split_columns`].
    fn fused_split_columns(x: FloatTensor<Self>, sizes: Vec<usize>) -> Vec<FloatTensor<Self>>;
}

/// Numbers of the matrix that one task copies, about.
const TASK: usize = 1 << 14;

#[derive(Clone, Debug)]
struct Columns {
    rows: usize,
    sizes: Vec<usize>,
}

impl Columns {
    fn of(x: &impl TensorMetadata, sizes: Vec<usize>) -> Self {
        Self { rows: x.shape()[0], sizes }
    }

    fn width(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Rows of a task.
    fn rows_of_task(&self) -> usize {
        (TASK / self.width().max(1)).max(1)
    }
}

impl Parts for Columns {
    fn take(&self, x: &FlexTensor) -> Vec<FlexTensor> {
        operation!("split_columns");
        let (x, width) = (values(x), self.width());
        let mut start = 0;
        let part = |size: &usize| {
            let (first, size) = (start, *size);
            start += size;
            let mut part = vec![0.0; self.rows * size];
            let tasks = part.par_chunks_mut((self.rows_of_task() * size).max(1));
            tasks.zip(x.par_chunks((self.rows_of_task() * width).max(1))).for_each(|(part, x)| {
                for (to, from) in part.chunks_exact_mut(size.max(1)).zip(x.chunks_exact(width.max(1))) {
                    to.copy_from_slice(&from[first..first + size]);
                }
            });
            tensor(part, [self.rows, size])
        };
        self.sizes.iter().map(part).collect()
    }

    fn join(&self, parts: Vec<Option<FlexTensor>>) -> FlexTensor {
        operation!("split_columns backward");
        let width = self.width();
        let mut whole = vec![0.0; self.rows * width];
        let rows = self.rows_of_task();
        whole.par_chunks_mut((rows * width).max(1)).enumerate().for_each(|(task, whole)| {
            let mut start = 0;
            for (part, &size) in parts.iter().zip(&self.sizes) {
                if let Some(part) = part {
                    let part = &values(part)[task * rows * size..];
                    for (to, from) in whole.chunks_exact_mut(width).zip(part.chunks_exact(size.max(1))) {
                        to[start..start + size].copy_from_slice(from);
                    }
                }
                start += size;
            }
        });
        tensor(whole, [self.rows, width])
    }
}

impl SplitColumnsBackend for Flex {
    fn fused_split_columns(x: FlexTensor, sizes: Vec<usize>) -> Vec<FlexTensor> {
        let x = dense(x);
        Columns::of(&x, sizes).take(&x)
    }
}

impl<C: CheckpointStrategy> SplitColumnsBackend for Autodiff<Flex, C> {
    fn fused_split_columns(x: FloatTensor<Self>, sizes: Vec<usize>) -> Vec<FloatTensor<Self>> {
        let columns = Columns::of(&x, sizes);
        tracked::<C, _>(x, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{in_pools, random, values};

    type Form = fn(Tensor<2>, &[usize]) -> Vec<Tensor<2>>;

    /// The parts, and the gradient of `x` for a different direction at each part that is read.
    fn passes(form: Form, x: Tensor<2>, sizes: &[usize], read: impl Fn(usize) -> bool) -> Vec<Vec<f32>> {
        let x = x.require_grad();
        let parts = form(x.clone(), sizes);
        let used = parts.iter().enumerate().filter(|(index, _)| read(*index));
        let sums = used.map(|(index, part)| (part.clone() * random(part.dims(), 10 + index as u32)).sum());
        let grads = sums.reduce(|a, b| a + b).unwrap().backward();
        let gradient = values(x.grad(&grads).unwrap());
        parts.into_iter().map(values).chain([gradient]).collect()
    }

    #[test]
    fn equals_composed() {
        for (rows, sizes) in [(1, vec![1]), (5, vec![3, 1, 2]), (700, vec![64, 32, 32]), (9, vec![4, 4])] {
            let x = || random([rows, sizes.iter().sum()], 1);
            assert_eq!(passes(split_columns, x(), &sizes, |_| true), passes(composed, x(), &sizes, |_| true));
            let first = |index| index == 0;
            assert_eq!(passes(split_columns, x(), &sizes, first), passes(composed, x(), &sizes, first));
        }
    }

    #[test]
    fn views_are_accepted_and_frozen_inputs_build_no_graph() {
        let x = random([7, 12], 1).transpose().slice([2..9, 1..6]);
        assert!(split_columns(x.clone(), &[2, 3]).iter().all(|part| !part.is_tracked()));
        assert_eq!(passes(split_columns, x.clone(), &[2, 3], |_| true), passes(composed, x, &[2, 3], |_| true));
    }

    #[test]
    #[should_panic(expected = "parts of [2, 2] columns of 5")]
    fn parts_that_are_not_all_columns_are_refused() {
        split_columns(random([3, 5], 1), &[2, 2]);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        in_pools(|| passes(split_columns, random([700, 128], 1), &[64, 32, 32], |_| true));
    }
}
