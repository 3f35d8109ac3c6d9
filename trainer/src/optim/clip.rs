//! Clipping by the global norm, as `torch.nn.utils.clip_grad_norm_` does it.

use burn::tensor::Tensor;

/// The Euclidean norm over all `gradients` together.
///
/// Each tensor's sum of squares is one value on the device; they are added in order, in f64.
pub fn global_norm<'a>(gradients: impl Iterator<Item = &'a Tensor<1>>) -> f64 {
    let squares: f64 = gradients
        .map(|gradient| {
            let sum = (gradient.clone() * gradient.clone()).sum();
            f64::from(sum.into_scalar::<f32>())
        })
        .sum();
    squares.sqrt()
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
    fn a_small_norm_is_left_alone() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert!((clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
    }
}
