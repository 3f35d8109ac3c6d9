//! Opens the device that a recipe or `--device` names: [`open`].

use burn::tensor::Device;

use crate::error::Error;
use crate::recipe::DeviceName;

/// The device called `name`.
///
/// # Errors
/// A device whose cargo feature is not compiled in.
pub fn open(name: DeviceName) -> Result<Device, Error> {
    match name {
        DeviceName::Auto => Ok(best()),
        DeviceName::Cpu => Ok(Device::flex()),
        DeviceName::Cuda { index } => cuda(index),
        DeviceName::Vulkan { index } => vulkan(index),
        DeviceName::Metal => metal(),
        DeviceName::Rocm { index } => rocm(index),
    }
}

/// Whether this name means the processor.
pub fn is_cpu(name: DeviceName) -> bool {
    match name {
        DeviceName::Cpu => true,
        // As [`best`] chooses.
        DeviceName::Auto => {
            !(cfg!(feature = "cuda") || cfg!(feature = "rocm") || cfg!(feature = "metal") || cfg!(feature = "vulkan"))
        }
        DeviceName::Cuda { .. } | DeviceName::Vulkan { .. } | DeviceName::Metal | DeviceName::Rocm { .. } => false,
    }
}

/// The first of CUDA, ROCm, Metal and Vulkan that is compiled in, otherwise the CPU.
fn best() -> Device {
    [cuda(0), rocm(0), metal(), vulkan(0)].into_iter().find_map(Result::ok).unwrap_or_else(Device::flex)
}

fn cuda(index: usize) -> Result<Device, Error> {
    #[cfg(feature = "cuda")]
    return Ok(Device::cuda(index));
    #[cfg(not(feature = "cuda"))]
    Err(missing(&format!("cuda:{index}"), "cuda"))
}

fn vulkan(index: usize) -> Result<Device, Error> {
    #[cfg(feature = "vulkan")]
    return Ok(Device::vulkan(burn::tensor::DeviceKind::DiscreteGpu(index)));
    #[cfg(not(feature = "vulkan"))]
    Err(missing(&format!("vulkan:{index}"), "vulkan"))
}

fn metal() -> Result<Device, Error> {
    #[cfg(feature = "metal")]
    return Ok(Device::metal(burn::tensor::DeviceKind::DefaultDevice));
    #[cfg(not(feature = "metal"))]
    Err(missing("metal", "metal"))
}

fn rocm(index: usize) -> Result<Device, Error> {
    #[cfg(feature = "rocm")]
    return Ok(Device::rocm(index));
    #[cfg(not(feature = "rocm"))]
    Err(missing(&format!("rocm:{index}"), "rocm"))
}

#[cfg(not(all(feature = "cuda", feature = "vulkan", feature = "metal", feature = "rocm")))]
fn missing(device: &str, feature: &'static str) -> Error {
    Error::Device { device: device.into(), feature }
}
