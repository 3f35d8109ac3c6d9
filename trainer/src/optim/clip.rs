//! Gradient clipping by the global norm, as `torch.nn.utils.clip_grad_norm_` does it: [`global_norm`] and
//! [`clip_factor`].
//!
//! What is unusual: squares are summed in pieces, in a fixed order. Burn's own sum of a large tensor on the CPU adds
//! partial sums in the order in which threads finish, so its last digit may change from run to run. The sums of all
//! pieces of all tensors are read together, with the loss, so the host waits for the device once a step.

use burn::tensor::Tensor;
use firebrand_kernels::{has_fused, sum};

/// Values whose squares are summed at once in f32: few enough for a small rounding error, and far below the 4 Mi values
/// from which Burn shares a sum among threads.
const PIECE: usize = 1 << 16;
/// Pieces whose squares are in memory at once: 4 MiB, which fits the cache of a CPU and is enough for a kernel launch
/// on a GPU.
const TOGETHER: usize = 16;
/// Values whose squares are in memory at once on another device, where [`sum`] divides them: 64 MiB.
const AT_ONCE: usize = 1 << 24;

/// The Euclidean norm over all values of all `gradients`.
///
/// The sums of squares of the pieces are added in order, in f64.
pub fn global_norm<'a>(gradients: impl Iterator<Item = &'a Tensor<1>>) -> f64 {
    global_norm_beside(vec![], gradients).1
}

/// As [`global_norm`], with the values of `scalars`, `[1]` each, for which the device is not waited for again.
pub fn global_norm_beside<'a>(
    scalars: Vec<Tensor<1>>,
    gradients: impl Iterator<Item = &'a Tensor<1>>,
) -> (Vec<f32>, f64) {
    let (scalars, sums) = sums_of_squares(scalars, gradients);
    (scalars, sums.into_iter().sum::<f64>().sqrt())
}

/// The sum of the squares of all values, with the same bits for any number of threads.
pub(super) fn sum_of_squares(values: &Tensor<1>) -> f64 {
    sums_of_squares(vec![], std::iter::once(values)).1.into_iter().sum()
}

/// The values of `scalars`, and the sum of squares of each of `tensors`. Waits for the device once.
fn sums_of_squares<'a>(scalars: Vec<Tensor<1>>, tensors: impl Iterator<Item = &'a Tensor<1>>) -> (Vec<f32>, Vec<f64>) {
    let (count, mut sums, mut pieces) = (scalars.len(), scalars, vec![]);
    for values in tensors {
        pieces.push(sums_of_pieces(values, &mut sums));
    }
    let mut scalars: Vec<f32> = match sums.is_empty() {
        true => vec![],
        false => Tensor::cat(sums, 0).into_data().iter::<f32>().collect(),
    };
    let sums = scalars.split_off(count);
    let mut sums = sums.into_iter().map(f64::from);
    (scalars, pieces.into_iter().map(|pieces| sums.by_ref().take(pieces).sum()).collect())
}

/// Appends the sum of squares of each piece of `values` to `sums`, in order, and says how many pieces there are; the sums stay on the
/// device.
fn sums_of_pieces(values: &Tensor<1>, sums: &mut Vec<Tensor<1>>) -> usize {
    let length = values.dims()[0];
    if !has_fused(&values.device()) {
        for start in (0..length).step_by(AT_ONCE) {
            let values = values.clone().narrow(0, start, AT_ONCE.min(length - start));
            sums.push(sum(values.clone() * values));
        }
        return length.div_ceil(AT_ONCE);
    }
    let whole = length / PIECE;
    for start in (0..whole).step_by(TOGETHER) {
        let pieces = TOGETHER.min(whole - start);
        let values = values.clone().narrow(0, start * PIECE, pieces * PIECE).reshape([pieces, PIECE]);
        sums.push((values.clone() * values).sum_dim(1).reshape([pieces]));
    }
    let rest = length % PIECE;
    if rest > 0 {
        let values = values.clone().narrow(0, whole * PIECE, rest);
        sums.push(sum(values.clone() * values));
    }
    length.div_ceil(PIECE)
}

/// The factor to multiply every gradient by so that the global norm is at most `max_norm`: `min(1, max_norm / (norm +
/// 1e-6))`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_norm_spans_all_tensors() {
        let device = Device::flex();
        let gradients = [Tensor::<1>::from_floats([3.0, 0.0], &device), Tensor::from_floats([4.0], &device)];
        assert!((global_norm(gradients.iter()) - 5.0).abs() < 1e-6);
    }

    #[test]
    fn the_bits_of_a_large_norm_do_not_depend_on_threads() {
        let values: Vec<f32> =
            (0..6_000_000_u64).map(|index| ((index * 7919 % 10_007) as f32 / 5003.0 - 1.0).powi(3)).collect();
        let exact: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let large = Tensor::<1>::from_floats(values.as_slice(), &Device::flex());
        let norm = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| global_norm([&large].into_iter()))
        };
        let one = norm(1);
        assert!((one / exact - 1.0).abs() < 1e-6, "{one} instead of {exact}");
        for threads in [2, 3, 7, 2] {
            assert_eq!(norm(threads).to_bits(), one.to_bits(), "{threads} threads");
        }
    }

    /// The bits of every run so far: a piece at a time, each read by itself.
    #[test]
    fn one_wait_gives_the_bits_of_reading_every_piece() {
        fn piece_by_piece(values: &Tensor<1>) -> f64 {
            let length = values.dims()[0];
            let piece = |start: usize| {
                let piece = values.clone().narrow(0, start, PIECE.min(length - start));
                f64::from((piece.clone() * piece).sum().into_scalar::<f32>())
            };
            (0..length).step_by(PIECE).map(piece).sum()
        }
        let device = Device::flex();
        let mut random = 1_u64;
        let mut value = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((random >> 40) as f32 / 8_388_608.0 - 1.0) * ((random >> 8) % 13) as f32
        };
        let lengths = [7, 0, PIECE, 1, 3 * PIECE + 5, (TOGETHER + 2) * PIECE, TOGETHER * PIECE + 1, PIECE - 1];
        let gradients = lengths.map(|length| {
            let values: Vec<f32> = (0..length).map(|_| value()).collect();
            Tensor::<1>::from_floats(values.as_slice(), &device)
        });
        let expected = gradients.iter().map(piece_by_piece).sum::<f64>().sqrt();
        assert_eq!(global_norm(gradients.iter()).to_bits(), expected.to_bits());
        for gradient in &gradients {
            assert_eq!(sum_of_squares(gradient).to_bits(), piece_by_piece(gradient).to_bits());
        }
        // A view that does not begin where its memory does, as a part of a larger tensor.
        let part = gradients[4].clone().narrow(0, 3, 2 * PIECE);
        assert_eq!(sum_of_squares(&part).to_bits(), piece_by_piece(&part).to_bits());
    }

    #[test]
    fn what_is_read_beside_a_norm_does_not_move_it() {
        let device = Device::flex();
        let scalar = |value: f32| Tensor::<1>::from_floats([value], &device);
        let gradient = Tensor::<1>::from_floats([3.0, 4.0], &device);
        assert_eq!(
            global_norm_beside(vec![scalar(7.0), scalar(-2.0)], [&gradient].into_iter()),
            (vec![7.0, -2.0], 5.0)
        );
        assert_eq!(global_norm_beside(vec![scalar(7.0)], [].into_iter()), (vec![7.0], 0.0));
    }

    #[test]
    fn the_norm_of_nothing_is_zero() {
        assert_eq!(global_norm([].into_iter()), 0.0);
    }

    #[test]
    fn a_small_norm_is_left_alone() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
    }
}
