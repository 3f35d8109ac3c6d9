//! The device that a name means: [`open`], [`decided`], [`hardware`].

use burn::tensor::Device;
use firebrand_kernels::InstructionSet;

use super::opened::Hardware;
use super::{adapters, cards};
use crate::error::Error;
use crate::recipe::{AdapterChoice, DeviceName, GraphicsApi};

/// The device called `name`.
///
/// # Errors
/// A device whose cargo feature is not compiled in, that this machine does not have, or that does not compute.
pub fn open(name: &DeviceName) -> Result<Device, Error> {
    match name {
        DeviceName::Auto => open(&decided(name)),
        DeviceName::Cpu => Ok(Device::flex()),
        DeviceName::Cuda { index } => cards::open(cards::Maker::Nvidia, *index),
        DeviceName::Rocm { index } => cards::open(cards::Maker::Amd, *index),
        DeviceName::Graphics { api, adapter } => adapters::open(*api, adapter),
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
pub fn is_cpu(name: &DeviceName) -> bool {
    decided(name) == DeviceName::Cpu
}

/// The device that `name` means here. `auto` is the first that is compiled in and there: a CUDA or ROCm device, else an adapter that is
/// hardware by Metal, Vulkan or whatever interface there is; without any the CPU.
pub fn decided(name: &DeviceName) -> DeviceName {
    match name {
        DeviceName::Auto => best(),
        DeviceName::Cpu | DeviceName::Cuda { .. } | DeviceName::Rocm { .. } | DeviceName::Graphics { .. } => {
            name.clone()
        }
    }
}

fn best() -> DeviceName {
    let card = |maker, name| (cards::count(maker) > 0).then_some(name);
    let adapter = |api| {
        let hardware = adapters::found(api).iter().any(adapters::Adapter::is_hardware);
        hardware.then_some(DeviceName::Graphics { api, adapter: AdapterChoice::Number(0) })
    };
    card(cards::Maker::Nvidia, DeviceName::Cuda { index: 0 })
        .or_else(|| card(cards::Maker::Amd, DeviceName::Rocm { index: 0 }))
        .or_else(|| [GraphicsApi::Metal, GraphicsApi::Vulkan, GraphicsApi::Wgpu].into_iter().find_map(adapter))
        .unwrap_or(DeviceName::Cpu)
}

/// The hardware behind a device that can be opened; `None` for the processor, of which `host` tells.
pub fn hardware(name: &DeviceName) -> Option<Hardware> {
    match decided(name) {
        DeviceName::Auto | DeviceName::Cpu => None,
        DeviceName::Cuda { index } => cards::hardware(cards::Maker::Nvidia, index),
        DeviceName::Rocm { index } => cards::hardware(cards::Maker::Amd, index),
        DeviceName::Graphics { api, adapter } => adapters::hardware(api, &adapter),
    }
}

/// The name of a device with its hardware, for sentences.
pub fn described(name: &DeviceName) -> String {
    let decided = decided(name);
    match hardware(&decided) {
        Some(hardware) => format!("{decided} ({hardware})"),
        None => decided.to_string(),
    }
}
