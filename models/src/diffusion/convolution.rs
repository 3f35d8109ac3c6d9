//! [`Convolution`]: a convolution over images.
//!
//! The weight has the layout of files, `[out, in, height, width]`. On the CPU a convolution without a stride is one matrix product
//! with the patches that it reads, which is two to four times as fast as Burn's own there, forward and backward.

use burn::module::{Module, Param};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use firebrand_kernels::{Precision, has_fused, linear_with_bias};

use super::deviation::deviation;
use crate::parameters::{Initial, ParameterSource, Role, tensor, vector};

/// Sizes of a convolution with a square kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvolutionConfig {
    /// Channels that it reads.
    pub inputs: usize,
    /// Channels that it gives.
    pub outputs: usize,
    /// Height and width of the kernel in pixels.
    pub kernel: usize,
    /// Pixels from one patch to the next.
    pub stride: usize,
    /// Rows of zeros above and below the image; columns of zeros to its left and right.
    pub padding: [usize; 2],
}

impl ConvolutionConfig {
    /// One that keeps height and width; the kernel is odd.
    pub fn same(inputs: usize, outputs: usize, kernel: usize) -> Self {
        Self { inputs, outputs, kernel, stride: 1, padding: [kernel / 2; 2] }
    }
}

/// A convolution with a bias.
#[derive(Module, Debug)]
pub struct Convolution {
    weight: Param<Tensor<4>>,
    bias: Param<Tensor<1>>,
    #[module(skip)]
    config: ConvolutionConfig,
}

impl Convolution {
    /// Reads `weight` and `bias` from `source`.
    pub fn new(config: ConvolutionConfig, source: &mut dyn ParameterSource) -> Self {
        let ConvolutionConfig { inputs, outputs, kernel, .. } = config;
        let initial = Initial::NormalWith(deviation(inputs * kernel * kernel));
        Self {
            weight: tensor(source, "weight", [outputs, inputs, kernel, kernel], Role::Kernel, initial),
            bias: vector(source, "bias", outputs, Role::Bias, 0.0),
            config,
        }
    }

    /// `[batch, inputs, height, width]` to `[batch, outputs, height', width']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let ConvolutionConfig { stride, padding: [before, after], .. } = self.config;
        if stride == 1 && has_fused(&x.device()) {
            return self.product(x);
        }
        let (x, around) = match before == after {
            true => (x, before),
            false => (x.pad((before, after, before, after), 0.0), 0),
        };
        let options = ConvOptions::new([stride; 2], [around; 2], [1; 2], 1);
        conv2d(x, self.weight.val(), Some(self.bias.val()), options)
    }

    /// The same with a stride of one, as a product of the weight as it lies with the patches of all pixels.
    fn product(&self, x: Tensor<4>) -> Tensor<4> {
        let ConvolutionConfig { inputs, outputs, kernel, padding: [before, after], .. } = self.config;
        let x = if before + after > 0 { x.pad((before, after, before, after), 0.0) } else { x };
        let [batch, _, height, width] = x.dims();
        let (height, width) = (height + 1 - kernel, width + 1 - kernel);
        let places = (0..kernel * kernel).map(|place| {
            let (row, column) = (place / kernel, place % kernel);
            let part = [0..batch, 0..inputs, row..row + height, column..column + width];
            x.clone().slice(part).reshape([batch, inputs, 1, height * width])
        });
        let patches = Tensor::cat(places.collect(), 2).reshape([batch, inputs * kernel * kernel, height * width]);
        let weight = self.weight.val().reshape([outputs, inputs * kernel * kernel]);
        let out = linear_with_bias(patches.swap_dims(1, 2), weight, Some(self.bias.val()), Precision::F32);
        out.swap_dims(1, 2).reshape([batch, outputs, height, width])
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.weight.lazy_device()
    }
}
