//! The size of a tensor, by which an update is scaled: [`Size`]. On the CPU it is known, in f64. Other devices keep it, in f32, so that
//! the host does not wait for every tensor of a step.

use burn::tensor::Tensor;
use firebrand_kernels::{has_fused, sum};

use super::clip::sum_of_squares;

/// A number.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one or two at a time")]
pub(super) enum Size {
    /// On the host.
    Known(f64),
    /// On the device, `[1]`.
    Kept(Tensor<1>),
}

impl Size {
    /// The Euclidean norm of `values`.
    pub fn norm(values: &Tensor<1>) -> Self {
        match has_fused(&values.device()) {
            true => Self::Known(sum_of_squares(values).sqrt()),
            false => Self::Kept(sum(values.clone() * values.clone()).sqrt()),
        }
    }

    /// The root of the mean of the squares of `values`.
    pub fn root_mean_square(values: &Tensor<1>) -> Self {
        let count = values.dims()[0] as f64;
        match has_fused(&values.device()) {
            true => Self::Known((sum_of_squares(values) / count).sqrt()),
            false => Self::Kept((sum(values.clone() * values.clone()) / count).sqrt()),
        }
    }

    /// The larger one of it and `least`.
    pub fn max(self, least: f64) -> Self {
        match self {
            Self::Known(size) => Self::Known(size.max(least)),
            Self::Kept(size) => Self::Kept(size.clamp_min(least)),
        }
    }

    /// `self * factor`.
    pub fn times(self, factor: f64) -> Self {
        match self {
            Self::Known(size) => Self::Known(size * factor),
            Self::Kept(size) => Self::Kept(size * factor),
        }
    }

    /// `self + term`.
    pub fn plus(self, term: f64) -> Self {
        match self {
            Self::Known(size) => Self::Known(size + term),
            Self::Kept(size) => Self::Kept(size + term),
        }
    }

    /// `self / by`.
    pub fn over(self, by: Self) -> Self {
        match (self, by) {
            (Self::Known(size), Self::Known(by)) => Self::Known(size / by),
            (Self::Kept(size), Self::Known(by)) => Self::Kept(size / by),
            (Self::Known(size), Self::Kept(by)) => Self::Kept(by.recip() * size),
            (Self::Kept(size), Self::Kept(by)) => Self::Kept(size / by),
        }
    }

    /// `values * self`.
    pub fn scale(self, values: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Known(size) => values * size,
            Self::Kept(size) => values * size,
        }
    }

    /// `values / self`.
    pub fn divide(self, values: Tensor<1>) -> Tensor<1> {
        match self {
            Self::Known(size) => values / size,
            Self::Kept(size) => values / size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// The same arithmetic, whoever holds the number.
    #[test]
    fn a_size_that_is_kept_does_what_a_known_one_does() {
        let device = Device::flex();
        let of = |kept: bool, size: f64| match kept {
            true => Size::Kept(Tensor::from_floats([size as f32], &device)),
            false => Size::Known(size),
        };
        let values = || Tensor::<1>::from_floats([2.0, -6.0], &device);
        let read = |values: Tensor<1>| values.into_data().iter::<f32>().collect::<Vec<_>>();
        for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
            let size = || of(left, 4.0).over(of(right, 0.5)).plus(1.0).times(2.0);
            assert_eq!(read(size().scale(values())), [36.0, -108.0]);
            assert_eq!(read(size().max(20.0).divide(values())), [0.1, -0.3]);
        }
        assert_eq!(read(Size::norm(&values()).divide(values())).len(), 2);
    }
}
