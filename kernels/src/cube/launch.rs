//! What the launches of this crate's kernels share.

use burn::tensor::{DType, Shape};
use burn_cubecl::{
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

/// Units of a cube that works on one row together. Every device has as many.
pub(super) const UNITS: usize = 128;
/// Most cubes side by side in one dimension of a launch.
const SIDE: u32 = 32_768;

/// The tensor itself if its numbers lie in order without gaps, else a copy that does, in f32.
pub(super) fn dense(tensor: CubeTensor) -> CubeTensor {
    assert_eq!(tensor.dtype, DType::F32, "operations of devices compute in f32");
    into_contiguous(tensor)
}

/// A tensor in f32 on the device of another, with whatever its memory holds.
pub(super) fn unwritten(like: &CubeTensor, shape: impl Into<Shape>) -> CubeTensor {
    let (shape, client) = (shape.into(), like.client.clone());
    let handle = client.empty(shape.num_elements() * size_of::<f32>());
    CubeTensor::new_contiguous(client, like.device.clone(), shape, handle, DType::F32)
}

/// A cube for each of so many pieces of work, found by `CUBE_POS`. There may be a few more.
pub(super) fn cubes(pieces: usize) -> CubeCount {
    let pieces = pieces as u32;
    let side = pieces.clamp(1, SIDE);
    CubeCount::Static(side, pieces.div_ceil(side).max(1), 1)
}

/// A unit for each of so many numbers, found by `ABSOLUTE_POS` in cubes of [`UNITS`]. There may be some more.
pub(super) fn units(numbers: usize) -> (CubeCount, CubeDim) {
    (cubes(numbers.div_ceil(UNITS)), CubeDim::new_1d(UNITS as u32))
}

/// The sum of a number of each unit of a cube, a power of two of them, added in a fixed order; every unit gets it.
#[cube]
pub(super) fn add_up(value: f32, #[comptime] units: usize) -> f32 {
    let mut values = Shared::new_slice(units);
    let unit = UNIT_POS as usize;
    values[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2() as usize) {
        let half = comptime!(units >> (step + 1));
        if unit < half {
            let sum = values[unit] + values[unit + half];
            values[unit] = sum;
        }
        sync_cube();
    }
    values[0]
}
