//! What is made for CubeCL's devices: CUDA, ROCm, Vulkan, Metal and the portable interface, which are one backend of Burn.
//!
//! An operation gets a body here as `#[backend_extension(Cube, Autodiff)]` with an implementation for [`burn_cubecl::CubeBackend`], beside
//! the one for the CPU in its own file.

mod activation;
mod attention;
mod launch;
mod launches;
mod normalise;
mod product;
mod quantized;
mod rope;

use burn::backend::DispatchDevice;
use burn::tensor::Device;

pub(crate) use attention::is_there as has_attention;
pub(crate) use launches::count;
pub(crate) use product::multiply;
pub(crate) use quantized::Copies;

/// Whether tensors of this device are CubeCL's.
pub(crate) fn is_cube(device: &Device) -> bool {
    match device.as_dispatch() {
        DispatchDevice::Cube(_) => true,
        DispatchDevice::Autodiff(inner) => matches!(**inner, DispatchDevice::Cube(_)),
        #[allow(unreachable_patterns)] // Other devices exist only with their features.
        _ => false,
    }
}

/// The memory of a device in bytes, where its driver tells. Opens the device.
pub(crate) fn memory_of(device: &Device) -> Option<u64> {
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => device.client().properties().memory.max_memory(),
        #[allow(unreachable_patterns)] // Other devices exist only with their features.
        _ => None,
    }
}
