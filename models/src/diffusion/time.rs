//! [`TimeEmbedding`]: the time of a noisy picture, and the other numbers of its conditioning, as vectors.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use firebrand_adapters::{Linear, Mode};
use firebrand_kernels::{Activation, activate};

use super::deviation::deviation;
use crate::parameters::{Initial, ParameterSource, Role, linear_from};
use crate::parts::maps;

/// The longest wave, as in Vaswani et al. 2017, arXiv:1706.03762.
const LONGEST: f64 = 10_000.0;

/// Sines and cosines of a number at frequencies that fall geometrically.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sinusoid {
    /// Number of values.
    pub width: usize,
    /// Whether cosines stand before sines.
    pub cosines_first: bool,
    /// What is subtracted from the number of frequencies where they are spaced.
    pub shift: f64,
}

impl Sinusoid {
    /// `width` values for each number, row-major.
    pub fn of(self, numbers: &[f32]) -> Vec<f32> {
        let half = self.width / 2;
        let last = half as f32 - self.shift as f32;
        // Rounded where the reference rounds: angles of late times are large, and their last digits show.
        let exponent = |index: usize| -(LONGEST.ln() as f32) * index as f32 / last;
        let frequencies: Vec<f32> = (0..half).map(|index| f64::from(exponent(index)).exp() as f32).collect();
        let mut values = Vec::with_capacity(numbers.len() * self.width);
        for number in numbers {
            let angles = || frequencies.iter().map(|frequency| f64::from(number * frequency));
            let sines = || angles().map(|angle| angle.sin() as f32);
            let cosines = || angles().map(|angle| angle.cos() as f32);
            match self.cosines_first {
                true => values.extend(cosines().chain(sines())),
                false => values.extend(sines().chain(cosines())),
            }
            values.extend(std::iter::repeat_n(0.0, self.width % 2));
        }
        values
    }

    /// The same as a tensor `[numbers, width]`.
    pub fn tensor(self, numbers: &[f32], device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.of(numbers), [numbers.len(), self.width]), device)
    }
}

/// `second(activation(first(x)))`.
#[derive(Module, Debug)]
pub struct TimeEmbedding {
    first: Linear,
    second: Linear,
    #[module(skip)]
    activation: Activation,
}

maps!(TimeEmbedding { first, second });

impl TimeEmbedding {
    /// Reads the maps from `inputs` to `outputs` values.
    pub fn new(inputs: usize, outputs: usize, activation: Activation, source: &mut dyn ParameterSource) -> Self {
        let mut map = |name: &str, inputs: usize| {
            let initial = Initial::NormalWith(deviation(inputs));
            linear_from(source, name, [outputs, inputs], true, Role::Projection, initial)
        };
        Self { first: map("first", inputs), second: map("second", outputs), activation }
    }

    /// `[rows, inputs]` to `[rows, outputs]`.
    pub fn forward(&self, x: Tensor<2>, mode: Mode) -> Tensor<2> {
        let hidden = self.first.forward(x.unsqueeze_dim(1), mode);
        let embedded = self.second.forward(activate(hidden, self.activation), mode);
        let [rows, _, width] = embedded.dims();
        embedded.reshape([rows, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_wave_has_ten_thousand_steps() {
        let waves = Sinusoid { width: 5, cosines_first: true, shift: 1.0 }.of(&[0.0, 2.0]);
        assert_eq!(waves[..5], [1.0, 1.0, 0.0, 0.0, 0.0]);
        let expected = [2_f64.cos(), 2e-4_f64.cos(), 2_f64.sin(), 2e-4_f64.sin(), 0.0].map(|value| value as f32);
        assert!(waves[5..].iter().zip(expected).all(|(ours, theirs)| (ours - theirs).abs() < 1e-7), "{waves:?}");
    }
}
