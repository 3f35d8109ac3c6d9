//! What the experts of a mixture answered, brought back to their tokens: weighted sums of rows (Shazeer et al. 2017, arXiv:1701.06538).
//!
//! Every row belongs to one visit of a token. The rows are read where experts left them; Burn's operations would order them, multiply
//! them and add them up, each with a matrix of its own, and again backward. Kept are handles of the rows and the weights.

use crate::{
    cpu::{Fresh, vectorised},
    flex::{dense, has_fused, tensor, values},
    sums::inner_product,
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
    tensor::{Int, Tensor, TensorData},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use std::sync::Arc;

/// `y[token] = sum_k weights[token, k] * x[places[token * chosen + k]]`. `x` is `[tokens * chosen, width]`, `weights` `[tokens, chosen]`,
/// both in f32; the result is `[tokens, width]`.
///
/// # Panics
/// When `places` does not name every row of `x` once, or the sizes do not fit together.
pub fn mix_rows(x: Tensor<2>, weights: Tensor<2>, places: Vec<usize>) -> Tensor<2> {
    let ([rows, _], [tokens, chosen]) = (x.dims(), weights.dims());
    assert_eq!([rows, places.len()], [tokens * chosen; 2], "mix_rows: a row and a place for each of the weights");
    let slots = slots_of(&places);
    if !has_fused(&x.device()) {
        return composed(x, weights, places);
    }
    Tensor::from_dispatch(<Dispatch as MixRowsBackend>::fused_mix_rows(
        x.into_dispatch(),
        weights.into_dispatch(),
        Arc::new(Places { places, slots }),
    ))
}

/// [`mix_rows`] in plain Burn operations.
pub fn composed(x: Tensor<2>, weights: Tensor<2>, places: Vec<usize>) -> Tensor<2> {
    let ([_, width], [tokens, chosen]) = (x.dims(), weights.dims());
    let places: Vec<i64> = places.into_iter().map(|place| place as i64).collect();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [tokens * chosen]), &x.device());
    let by_token = x.select(0, places).reshape([tokens, chosen, width]);
    (by_token * weights.reshape([tokens, chosen, 1])).sum_dim(1).reshape([tokens, width])
}

/// Which weight each row has: the inverse of the places.
fn slots_of(places: &[usize]) -> Vec<usize> {
    let mut slots = vec![usize::MAX; places.len()];
    for (slot, &place) in places.iter().enumerate() {
        assert!(place < slots.len() && slots[place] == usize::MAX, "row {place} is named once, of {}", slots.len());
        slots[place] = slot;
    }
    slots
}

/// Where the row of each weight lies, and which weight each row has.
#[derive(Debug)]
pub struct Places {
    places: Vec<usize>,
    slots: Vec<usize>,
}

/// Backends with a fused [`mix_rows`].
#[backend_extension(Flex, Autodiff)]
pub trait MixRowsBackend: Backend {
    /// See [`mix_rows`].
    fn fused_mix_rows(x: FloatTensor<Self>, weights: FloatTensor<Self>, places: Arc<Places>) -> FloatTensor<Self>;
}

/// Rows of one task.
const ROWS: usize = 16;

impl MixRowsBackend for Flex {
    fn fused_mix_rows(x: FlexTensor, weights: FlexTensor, places: Arc<Places>) -> FlexTensor {
        operation!("mix_rows");
        mix(&dense(x), &dense(weights), &places)
    }
}

fn mix(x: &FlexTensor, weights: &FlexTensor, places: &Places) -> FlexTensor {
    let (width, tokens, chosen) = (x.layout().shape()[1], weights.layout().shape()[0], weights.layout().shape()[1]);
    let (x, weights) = (values(x), values(weights));
    let mut out = Fresh::new(tokens * width);
    out.par_chunks((ROWS * width).max(1)).enumerate().for_each(|(task, out)| {
        vectorised(
            #[inline(always)]
            || {
                for (row, out) in out.chunks_exact_mut(width).enumerate() {
                    let first = (task * ROWS + row) * chosen;
                    for slot in first..first + chosen {
                        let (weight, x) = (weights[slot], &x[places.places[slot] * width..][..width]);
                        out.iter_mut().zip(x).for_each(|(out, x)| *out += weight * x);
                    }
                }
            },
        );
    });
    tensor(out.finish(), [tokens, width])
}

#[derive(Debug)]
struct MixRowsBackward;

impl Backward<Flex, 2> for MixRowsBackward {
    type State = (FlexTensor, FlexTensor, Arc<Places>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        operation!("mix_rows backward");
        let [x_node, weights_node] = ops.parents;
        let grad = dense(grads.consume::<Flex>(&ops.node));
        let (x, weights, places) = ops.state;
        let (width, tokens, chosen) = (x.layout().shape()[1], weights.layout().shape()[0], weights.layout().shape()[1]);
        let (grad, rows) = (values(&grad), tokens * chosen);
        if let Some(node) = x_node {
            let weights = values(&weights);
            let mut d_x = Fresh::new(rows * width);
            d_x.par_chunks((ROWS * width).max(1)).enumerate().for_each(|(task, d_x)| {
                vectorised(
                    #[inline(always)]
                    || {
                        for (row, d_x) in d_x.chunks_exact_mut(width).enumerate() {
                            let slot = places.slots[task * ROWS + row];
                            let (weight, grad) = (weights[slot], &grad[slot / chosen * width..][..width]);
                            d_x.iter_mut().zip(grad).for_each(|(d_x, grad)| *d_x = weight * grad);
                        }
                    },
                );
            });
            grads.register::<Flex>(node.id, tensor(d_x.finish(), [rows, width]));
        }
        if let Some(node) = weights_node {
            let x = values(&x);
            let of_slot = |slot: usize| {
                let (x, grad) = (&x[places.places[slot] * width..][..width], &grad[slot / chosen * width..][..width]);
                vectorised(
                    #[inline(always)]
                    || inner_product(x, grad),
                )
            };
            let d_weights: Vec<f32> = (0..rows).into_par_iter().with_min_len(ROWS).map(of_slot).collect();
            grads.register::<Flex>(node.id, tensor(d_weights, [tokens, chosen]));
        }
    }
}

impl<C: CheckpointStrategy> MixRowsBackend for Autodiff<Flex, C> {
    fn fused_mix_rows(x: FloatTensor<Self>, weights: FloatTensor<Self>, places: Arc<Places>) -> FloatTensor<Self> {
        let [(x, x_node), (weights, weights_node)] = [x.into_parts(), weights.into_parts()];
        let (x, weights) = (dense(x), dense(weights));
        let out = Flex::fused_mix_rows(x.clone(), weights.clone(), places.clone());
        match MixRowsBackward.prepare::<C>([x_node, weights_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weights, places), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, finite_differences, in_pools, numbers, random, values};
    use burn::tensor::Device;

    type Form = fn(Tensor<2>, Tensor<2>, Vec<usize>) -> Tensor<2>;

    /// All places in another order.
    fn places(count: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..count).collect();
        for (place, other) in numbers(count, 7).into_iter().enumerate() {
            places.swap(place, ((other + 0.5) * count as f32) as usize % count);
        }
        places
    }

    /// The result, and the gradients of rows and weights.
    fn passes(form: Form, tokens: usize, chosen: usize, width: usize) -> [Vec<f32>; 3] {
        let x = random([tokens * chosen, width], 1).require_grad();
        let weights = random([tokens, chosen], 2).require_grad();
        let out = form(x.clone(), weights.clone(), places(tokens * chosen));
        let grads = (out.clone() * random(out.dims(), 9)).sum().backward();
        [values(out), values(x.grad(&grads).unwrap()), values(weights.grad(&grads).unwrap())]
    }

    #[test]
    fn equals_composed() {
        for (tokens, chosen, width) in [(1, 1, 1), (5, 2, 3), (70, 3, 33), (9, 8, 64)] {
            let (found, expected) = (passes(mix_rows, tokens, chosen, width), passes(composed, tokens, chosen, width));
            for (found, expected) in found.iter().zip(&expected) {
                assert_near(found, expected, 2e-6);
            }
        }
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let points = [numbers(6 * 4, 1), numbers(3 * 2, 2)];
        let run = |[x, weights]: &[Vec<f32>; 2]| {
            let device = Device::flex().autodiff();
            let x = Tensor::<2>::from_data(TensorData::new(x.clone(), [6, 4]), &device).require_grad();
            let weights = Tensor::<2>::from_data(TensorData::new(weights.clone(), [3, 2]), &device).require_grad();
            let sum = (mix_rows(x.clone(), weights.clone(), places(6)) * random([3, 4], 9)).sum();
            let grads = sum.clone().backward();
            (values(sum)[0], [values(x.grad(&grads).unwrap()), values(weights.grad(&grads).unwrap())])
        };
        let (_, found) = run(&points);
        for which in 0..2 {
            let sum = |moved: &[f32]| {
                let mut points = points.clone();
                points[which] = moved.to_vec();
                run(&points).0
            };
            // Linear in each: rounding leaves about 1e-5 over a step of 0.1.
            assert_near(&found[which], &finite_differences(&points[which], 0.1, sum), 1e-5);
        }
    }

    #[test]
    fn frozen_inputs_build_no_graph() {
        let (x, weights) = (random([4, 3], 1), random([2, 2], 2));
        assert!(!mix_rows(x.clone(), weights.clone(), places(4)).is_tracked());
        assert!(mix_rows(x, weights.require_grad(), places(4)).is_tracked());
    }

    #[test]
    #[should_panic(expected = "row 1 is named once, of 4")]
    fn a_row_that_is_named_twice_is_refused() {
        mix_rows(random([4, 3], 1), random([2, 2], 2), vec![0, 1, 1, 3]);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        in_pools(|| passes(mix_rows, 300, 2, 33));
    }
}
