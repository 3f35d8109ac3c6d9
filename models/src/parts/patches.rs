//! [`Patches`]: from images to the residual stream, by patches, a class embedding, and learned positions.
//!
//! The kernel of the patch convolution has the layout of files, `[width, channels, patch, patch]`. Its stride is the
//! size of a patch, so the convolution is one matrix product with the patches (Dosovitskiy et al. 2020,
//! arXiv:2010.11929).

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use firebrand_kernels::{Precision, linear};

use crate::parameters::{Initial, ParameterSource, Role, tensor};

/// Sizes of the image embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchesConfig {
    /// Width of the residual stream.
    pub width: usize,
    /// Number of channels of an image.
    pub channels: usize,
    /// Height and width of an image in pixels; a multiple of `patch`.
    pub image: usize,
    /// Height and width of a patch in pixels.
    pub patch: usize,
    /// Initial values of the class embedding, if it is new.
    pub class: Initial,
}

impl PatchesConfig {
    /// Number of patches along one side.
    pub fn side(self) -> usize {
        self.image / self.patch
    }

    /// Number of vectors in the stream: the class embedding and the patches.
    pub fn length(self) -> usize {
        self.side().pow(2) + 1
    }
}

/// The embedding of images: kernel, class embedding and positions.
#[derive(Module, Debug)]
pub struct Patches {
    kernel: Param<Tensor<4>>,
    class: Param<Tensor<1>>,
    positions: Param<Tensor<2>>,
    #[module(skip)]
    config: PatchesConfig,
}

impl Patches {
    /// Reads the parameters from `source`.
    pub fn new(config: PatchesConfig, source: &mut dyn ParameterSource) -> Self {
        let PatchesConfig { width, channels, patch, class, .. } = config;
        Self {
            kernel: tensor(source, "kernel", [width, channels, patch, patch], Role::Kernel, Initial::Normal),
            class: tensor(source, "class", [width], Role::Vector, class),
            positions: tensor(source, "positions", [config.length(), width], Role::Table, Initial::Normal),
            config,
        }
    }

    /// Sizes.
    pub fn config(&self) -> PatchesConfig {
        self.config
    }

    /// `[batch, channels, image, image]` to `[batch, 1 + patches, width]`: the class embedding, then the patches row by
    /// row.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [batch, ..] = pixels.dims();
        let PatchesConfig { width, channels, patch, .. } = self.config;
        let side = self.config.side();
        let patches = pixels.reshape([batch, channels, side, patch, side, patch]).permute([0, 2, 4, 1, 3, 5]);
        let patches: Tensor<3> = patches.reshape([batch, side * side, channels * patch * patch]);
        let kernel = self.kernel.val().reshape([width, channels * patch * patch]);
        let class = self.class.val().reshape([1, 1, width]).expand([batch, 1, width]);
        Tensor::cat(vec![class, linear(patches, kernel, Precision::F32)], 1) + self.positions.val().unsqueeze()
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.kernel.lazy_device()
    }
}
