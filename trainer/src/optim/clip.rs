//! Clipping by the global norm, as `torch.nn.utils.clip_grad_norm_` does it.
//!
//! What is unusual: squares are added up in pieces, in order. Burn's own sum of a large tensor on the CPU adds its parts as
//! threads become free, so its last digit may change from run to run.

use burn::tensor::Tensor;

/// Values whose squares are added at once in f32: few enough that little is rounded away, and far below the 4 Mi from which
/// Burn's sum is shared by threads.
const PIECE: usize = 1 << 16;

/// The Euclidean norm over all `gradients` together.
///
/// The sums of squares are added in order, in f64.
pub fn global_norm<'a>(gradients: impl Iterator<Item = &'a Tensor<1>>) -> f64 {
    gradients.map(sum_of_squares).sum::<f64>().sqrt()
}

/// The sum of the squares of all values, the same bits on any number of threads.
pub(super) fn sum_of_squares(values: &Tensor<1>) -> f64 {
    let length = values.dims()[0];
    let piece = |start: usize| {
        let piece = values.clone().narrow(0, start, PIECE.min(length - start));
        f64::from((piece.clone() * piece).sum().into_scalar::<f32>())
    };
    (0..length).step_by(PIECE).map(piece).sum()
}

/// The factor on every gradient so that their global norm is at most `max_norm`: `min(1, max / (norm + 1e-6))`.
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

    #[test]
    fn a_small_norm_is_left_alone() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
    }
}
