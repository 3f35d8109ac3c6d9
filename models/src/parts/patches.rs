//! [`Patches`]: from images to the residual stream, by patches, a class embedding, registers, and learned positions.
//!
//! The kernel of the patch convolution has the layout of files, `[width, channels, patch, patch]`. Its stride is the
//! size of a patch, so the convolution is one matrix product with the patches (Dosovitskiy et al. 2020,
//! arXiv:2010.11929); pixels behind the last whole patch of a side are not read. Registers (Darcet et al. 2023,
//! arXiv:2309.16588) have no positions.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use firebrand_kernels::{Precision, linear_with_bias};

use super::Interpolation;
use crate::parameters::{Initial, ParameterSource, Role, tensor, vector};

/// Sizes of the image embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchesConfig {
    /// Width of the residual stream.
    pub width: usize,
    /// Number of channels of an image.
    pub channels: usize,
    /// Height and width in pixels of the images that positions are for; a multiple of `patch`.
    pub image: usize,
    /// Height and width of a patch in pixels.
    pub patch: usize,
    /// Initial values of the class embedding, if it is new.
    pub class: Initial,
    /// Whether the kernel has a bias.
    pub bias: bool,
    /// Whether there is an embedding for patches that are hidden, as pretraining hides them. Nothing here reads it.
    pub mask: bool,
    /// Number of registers: vectors of the stream that belong to no patch.
    pub registers: usize,
    /// How positions are resampled for images of another size; absent: all images are of one size.
    pub interpolation: Option<Interpolation>,
}

impl PatchesConfig {
    /// Number of patches along one side.
    pub fn side(self) -> usize {
        self.image / self.patch
    }

    /// Number of vectors in the stream before those of patches: the class embedding and the registers.
    pub fn before(self) -> usize {
        1 + self.registers
    }

    /// Number of vectors in the stream of an image of the size that positions are for.
    pub fn length(self) -> usize {
        self.length_of(self.image, self.image)
    }

    /// Number of vectors in the stream of an image of `height` and `width` pixels.
    pub fn length_of(self, height: usize, width: usize) -> usize {
        self.before() + (height / self.patch) * (width / self.patch)
    }

    /// Rows of the table of positions.
    fn positions(self) -> usize {
        1 + self.side().pow(2)
    }
}

/// The embedding of images.
#[derive(Module, Debug)]
pub struct Patches {
    kernel: Param<Tensor<4>>,
    bias: Option<Param<Tensor<1>>>,
    class: Param<Tensor<1>>,
    mask: Option<Param<Tensor<1>>>,
    registers: Option<Param<Tensor<2>>>,
    positions: Param<Tensor<2>>,
    #[module(skip)]
    config: PatchesConfig,
}

impl Patches {
    /// Reads the parameters from `source`.
    pub fn new(config: PatchesConfig, source: &mut dyn ParameterSource) -> Self {
        let PatchesConfig { width, channels, patch, class, registers, .. } = config;
        let none = Initial::Constant(0.0);
        Self {
            kernel: tensor(source, "kernel", [width, channels, patch, patch], Role::Kernel, Initial::Normal),
            bias: config.bias.then(|| vector(source, "bias", width, Role::Bias, 0.0)),
            class: tensor(source, "class", [width], Role::Vector, class),
            mask: config.mask.then(|| vector(source, "mask", width, Role::Vector, 0.0)),
            registers: (registers > 0).then(|| tensor(source, "registers", [registers, width], Role::Table, none)),
            positions: tensor(source, "positions", [config.positions(), width], Role::Table, Initial::Normal),
            config,
        }
    }

    /// Sizes.
    pub fn config(&self) -> PatchesConfig {
        self.config
    }

    /// `[batch, channels, height, width]` to `[batch, before + patches, width]`: the class embedding, the registers, then the
    /// patches row by row. Both sides hold a patch at least; without interpolation they are those of the configuration.
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [batch, _, height, breadth] = pixels.dims();
        let PatchesConfig { width, channels, patch, .. } = self.config;
        let [rows, columns] = [height / patch, breadth / patch];
        let pixels = pixels.slice([0..batch, 0..channels, 0..rows * patch, 0..columns * patch]);
        let patches = pixels.reshape([batch, channels, rows, patch, columns, patch]).permute([0, 2, 4, 1, 3, 5]);
        let patches: Tensor<3> = patches.reshape([batch, rows * columns, channels * patch * patch]);
        let kernel = self.kernel.val().reshape([width, channels * patch * patch]);
        let bias = self.bias.as_ref().map(|bias| bias.val());
        let patches = linear_with_bias(patches, kernel, bias, Precision::F32);
        let class = self.class.val().reshape([1, 1, width]).expand([batch, 1, width]);
        let x = Tensor::cat(vec![class, patches], 1) + self.positions([rows, columns]).unsqueeze();
        match &self.registers {
            Some(registers) => {
                let count = self.config.registers;
                let registers = registers.val().unsqueeze::<3>().expand([batch, count, width]);
                let (class, patches) = (x.clone().slice_dim(1, 0..1), x.slice_dim(1, 1..1 + rows * columns));
                Tensor::cat(vec![class, registers, patches], 1)
            }
            None => x,
        }
    }

    /// The positions `[1 + rows * columns, width]` of a grid of patches.
    fn positions(&self, grid: [usize; 2]) -> Tensor<2> {
        let (positions, side) = (self.positions.val(), self.config.side());
        match self.config.interpolation {
            // On the same grid, the reference's resampling changes nothing either.
            Some(how) if grid != [side, side] => {
                let patches = positions.clone().slice_dim(0, 1..1 + side * side);
                Tensor::cat(vec![positions.slice_dim(0, 0..1), how.resample(patches, side, grid)], 0)
            }
            Some(_) | None => positions,
        }
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.kernel.lazy_device()
    }
}
