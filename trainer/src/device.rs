//! Opens the device that a recipe or `--device` names: [`open`].

use burn::tensor::Device;
use firebrand_kernels::InstructionSet;

use crate::error::Error;
use crate::recipe::DeviceName;

/// The device called `name`.
///
/// # Errors
/// A device whose cargo feature is not compiled in.
pub fn open(name: DeviceName) -> Result<Device, Error> {
    match name {
        DeviceName::Auto => open(decided(name)),
        DeviceName::Cpu => Ok(Device::flex()),
        DeviceName::Cuda { index } => cuda(index),
        DeviceName::Vulkan { index } => vulkan(index),
        DeviceName::Metal => metal(),
        DeviceName::Rocm { index } => rocm(index),
    }
}

/// The vector instructions that operations on the processor use.
///
/// # Errors
/// `FIREBRAND_CPU` names none, or one that this processor does not have.
pub fn instructions() -> Result<InstructionSet, Error> {
    InstructionSet::chosen().map_err(|error| Error::Request {
        problem: error.to_string(),
        help: "unset FIREBRAND_CPU, and the best one is taken".into(),
    })
}

/// Whether this name means the processor.
pub fn is_cpu(name: DeviceName) -> bool {
    decided(name) == DeviceName::Cpu
}

/// The device that `name` means in this build. `auto` is the first of CUDA, ROCm, Metal and Vulkan that is compiled in,
/// otherwise the CPU.
pub fn decided(name: DeviceName) -> DeviceName {
    let compiled_in = [
        (cfg!(feature = "cuda"), DeviceName::Cuda { index: 0 }),
        (cfg!(feature = "rocm"), DeviceName::Rocm { index: 0 }),
        (cfg!(feature = "metal"), DeviceName::Metal),
        (cfg!(feature = "vulkan"), DeviceName::Vulkan { index: 0 }),
    ];
    match name {
        DeviceName::Auto => {
            compiled_in.into_iter().find(|(there, _)| *there).map_or(DeviceName::Cpu, |(_, device)| device)
        }
        DeviceName::Cpu
        | DeviceName::Cuda { .. }
        | DeviceName::Vulkan { .. }
        | DeviceName::Metal
        | DeviceName::Rocm { .. } => name,
    }
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
