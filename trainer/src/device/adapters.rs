//! Adapters, as the graphics interfaces of this machine show them: [`found`], [`open`].
//!
//! They are counted as CubeCL counts them, each kind from zero in the order of the interface, because that is how one is opened.
//! A recipe's number counts hardware of all kinds, the fastest kind first.

use burn::tensor::Device;

use super::opened::{Hardware, left_out, started};
use crate::error::Error;
use crate::recipe::{AdapterChoice, AdapterKind, DeviceName, GraphicsApi};

/// An adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// What the driver says that it is.
    pub kind: AdapterKind,
    /// Its number among those of this kind.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Name and version of the driver.
    pub driver: String,
}

impl Adapter {
    /// Whether it is more than a program on the processor.
    pub fn is_hardware(&self) -> bool {
        self.kind != AdapterKind::Software
    }

    fn hardware(&self) -> Hardware {
        Hardware { name: self.name.clone(), driver: (!self.driver.is_empty()).then(|| self.driver.clone()) }
    }
}

impl GraphicsApi {
    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Wgpu => cfg!(feature = "wgpu"),
        }
    }

    pub fn feature(self) -> &'static str {
        match self {
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Wgpu => "wgpu",
        }
    }

    /// The name by which an adapter is opened: its number where it is hardware.
    pub fn names(self, adapters: &[Adapter]) -> Vec<DeviceName> {
        let name = |(number, adapter): (usize, &Adapter)| {
            let adapter = match adapter.is_hardware() {
                true => AdapterChoice::Number(number),
                false => AdapterChoice::Kind(AdapterKind::Software, 0),
            };
            DeviceName::Graphics { api: self, adapter }
        };
        adapters.iter().enumerate().map(name).collect()
    }
}

impl AdapterChoice {
    /// The adapter that it means, among all in the order of [`found`].
    fn among<'a>(&self, adapters: &'a [Adapter]) -> Option<&'a Adapter> {
        match self {
            Self::Number(number) => adapters.iter().filter(|adapter| adapter.is_hardware()).nth(*number),
            Self::Kind(kind, number) => adapters.iter().filter(|adapter| adapter.kind == *kind).nth(*number),
            Self::Named(part) => {
                let part = part.trim().to_lowercase();
                adapters.iter().find(|adapter| adapter.name.to_lowercase().contains(&part))
            }
        }
    }
}

/// The adapter that is meant.
///
/// # Errors
/// It is not compiled in, not there, or does not compute.
pub fn open(api: GraphicsApi, choice: &AdapterChoice) -> Result<Device, Error> {
    let name = DeviceName::Graphics { api, adapter: choice.clone() };
    if !api.is_built() {
        return Err(left_out(&name, api.feature()));
    }
    let adapters = found(api);
    let adapter = choice.among(adapters).ok_or_else(|| missing(api, choice, adapters))?;
    started(&name, Some(&adapter.hardware()), device(api, adapter))
}

/// Name and driver.
pub fn hardware(api: GraphicsApi, choice: &AdapterChoice) -> Option<Hardware> {
    choice.among(found(api)).map(Adapter::hardware)
}

fn missing(api: GraphicsApi, choice: &AdapterChoice, adapters: &[Adapter]) -> Error {
    let name = DeviceName::Graphics { api, adapter: choice.clone() };
    let software = adapters.iter().find(|adapter| !adapter.is_hardware());
    let list = |adapters: &[Adapter]| {
        let names =
            api.names(adapters).into_iter().zip(adapters).map(|(name, adapter)| format!("{name} ({})", adapter.name));
        names.collect::<Vec<_>>().join(", ")
    };
    let (problem, help) = match (adapters.is_empty(), choice, software) {
        (true, ..) => {
            (format!("device {name}: no driver on this machine shows an adapter"), driver_of(api).to_string())
        }
        (false, AdapterChoice::Number(_), Some(software)) if !adapters.iter().any(Adapter::is_hardware) => (
            format!("device {name}: no adapter here is hardware; {} is a program on the processor", software.name),
            format!(
                "install the card's driver; --device {api}:cpu takes that program, and --device cpu is faster than it"
            ),
        ),
        _ => (
            format!("device {name}: this machine has no such adapter; it has {}", list(adapters)),
            "`firebrand devices` lists what there is".to_string(),
        ),
    };
    Error::Request { problem, help }
}

fn driver_of(api: GraphicsApi) -> &'static str {
    match api {
        GraphicsApi::Metal => "Metal is on Apple's machines; elsewhere build with --features wgpu, or use --device cpu",
        GraphicsApi::Vulkan | GraphicsApi::Wgpu => {
            "install the card's Vulkan driver (`vulkaninfo --summary` must list the card), or use --device cpu"
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
mod reached {
    use std::sync::OnceLock;

    use burn::backend::{WgpuBackend, WgpuDevice, WgpuDeviceKind};
    use burn::tensor::{Device, try_read_sync, wgpu::wgpu};

    use crate::device::adapters::Adapter;
    use crate::device::failure;
    use crate::recipe::{AdapterKind, GraphicsApi};

    /// All adapters of an interface, hardware first. The interface is asked once: its instances must not come and go while kernels run.
    pub fn found(api: GraphicsApi) -> &'static [Adapter] {
        static FOUND: [OnceLock<Vec<Adapter>>; 3] = [const { OnceLock::new() }; 3];
        let place = match api {
            GraphicsApi::Vulkan => 0,
            GraphicsApi::Metal => 1,
            GraphicsApi::Wgpu => 2,
        };
        FOUND[place].get_or_init(|| failure::quietly(|| settled(api)).unwrap_or_default())
    }

    pub fn device(api: GraphicsApi, adapter: &Adapter) -> Device {
        let kind = match adapter.kind {
            AdapterKind::Discrete => WgpuDeviceKind::DiscreteGpu(adapter.index),
            AdapterKind::Integrated => WgpuDeviceKind::IntegratedGpu(adapter.index),
            AdapterKind::Virtual => WgpuDeviceKind::VirtualGpu(adapter.index),
            AdapterKind::Other => WgpuDeviceKind::Other(adapter.index),
            AdapterKind::Software => WgpuDeviceKind::Cpu,
        };
        let backend = match api {
            GraphicsApi::Vulkan => WgpuBackend::Vulkan,
            GraphicsApi::Metal => WgpuBackend::Metal,
            GraphicsApi::Wgpu => WgpuBackend::Auto,
        };
        Device::new(WgpuDevice::new(kind).on(backend))
    }

    /// The adapters of the first interface that has hardware, else of the first that has any: as CubeCL settles it.
    fn settled(api: GraphicsApi) -> Vec<Adapter> {
        let candidates: &[wgpu::Backend] = match api {
            GraphicsApi::Vulkan => &[wgpu::Backend::Vulkan],
            GraphicsApi::Metal => &[wgpu::Backend::Metal],
            GraphicsApi::Wgpu if cfg!(target_os = "macos") => &[wgpu::Backend::Metal],
            GraphicsApi::Wgpu => &[wgpu::Backend::Vulkan, wgpu::Backend::Dx12, wgpu::Backend::Gl],
        };
        let mut software = vec![];
        for backend in candidates {
            let adapters = shown_by(*backend);
            if adapters.iter().any(Adapter::is_hardware) {
                return adapters;
            }
            if software.is_empty() {
                software = adapters;
            }
        }
        software
    }

    fn shown_by(backend: wgpu::Backend) -> Vec<Adapter> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: backend.into(),
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let shown = try_read_sync(instance.enumerate_adapters(backend.into())).unwrap_or_default();
        let mut adapters: Vec<Adapter> = vec![];
        for info in shown.iter().map(wgpu::Adapter::get_info) {
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
                wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
                wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
                wgpu::DeviceType::Cpu => AdapterKind::Software,
                wgpu::DeviceType::Other => AdapterKind::Other,
            };
            let index = adapters.iter().filter(|adapter| adapter.kind == kind).count();
            let driver = format!("{} {}", info.driver, info.driver_info).trim().to_string();
            adapters.push(Adapter { kind, index, name: info.name, driver });
        }
        adapters.sort_by_key(|adapter| adapter.kind);
        adapters
    }
}

#[cfg(not(any(feature = "wgpu", feature = "vulkan", feature = "metal")))]
mod reached {
    use burn::tensor::Device;

    use crate::device::adapters::Adapter;
    use crate::recipe::GraphicsApi;

    pub fn found(_: GraphicsApi) -> &'static [Adapter] {
        &[]
    }

    pub fn device(_: GraphicsApi, _: &Adapter) -> Device {
        Device::flex()
    }
}

use reached::device;

/// All adapters that an interface shows, in the order of their numbers, programs on the processor last. None where the build is made
/// without it.
pub fn found(api: GraphicsApi) -> &'static [Adapter] {
    if api.is_built() { reached::found(api) } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<Adapter> {
        let adapter = |kind, index, name: &str| Adapter { kind, index, name: name.into(), driver: "driver 1".into() };
        vec![
            adapter(AdapterKind::Discrete, 0, "NVIDIA GeForce RTX 4090"),
            adapter(AdapterKind::Discrete, 1, "NVIDIA GeForce GTX 1080"),
            adapter(AdapterKind::Integrated, 0, "AMD Radeon 780M"),
            adapter(AdapterKind::Software, 0, "llvmpipe (LLVM 15.0.6, 256 bits)"),
        ]
    }

    fn chosen(text: &str, adapters: &[Adapter]) -> Result<String, (String, String)> {
        let Ok(DeviceName::Graphics { api, adapter }) = text.parse() else { panic!("{text}") };
        adapter.among(adapters).map(|adapter| adapter.name.clone()).ok_or_else(|| {
            match missing(api, &adapter, adapters) {
                Error::Request { problem, help } => (problem, help),
                other => panic!("{other}"),
            }
        })
    }

    #[test]
    fn adapters_are_chosen_by_number_kind_and_name() {
        let adapters = machine();
        for (text, name) in [
            ("wgpu", "NVIDIA GeForce RTX 4090"),
            ("vulkan:1", "NVIDIA GeForce GTX 1080"),
            ("vulkan:2", "AMD Radeon 780M"),
            ("wgpu:discrete:1", "NVIDIA GeForce GTX 1080"),
            ("wgpu:integrated", "AMD Radeon 780M"),
            ("wgpu:radeon", "AMD Radeon 780M"),
            ("wgpu:cpu", "llvmpipe (LLVM 15.0.6, 256 bits)"),
            ("wgpu:LLVMpipe", "llvmpipe (LLVM 15.0.6, 256 bits)"),
        ] {
            assert_eq!(chosen(text, &adapters).as_deref(), Ok(name), "{text}");
        }
    }

    #[test]
    fn a_program_on_the_processor_is_taken_only_where_it_is_named() {
        let adapters = &machine()[3..];
        let (problem, help) = chosen("wgpu", adapters).unwrap_err();
        assert!(problem.starts_with("device wgpu:0: no adapter here is hardware; llvmpipe"), "{problem}");
        assert!(help.contains("--device wgpu:cpu"), "{help}");
        assert!(chosen("wgpu:3", &machine()).is_err());
    }

    #[test]
    fn an_adapter_that_is_not_there_is_told_with_those_that_are() {
        let (problem, _) = chosen("vulkan:GeForce RTX 3060", &machine()).unwrap_err();
        for name in ["vulkan:0 (NVIDIA GeForce RTX 4090)", "vulkan:2 (AMD Radeon 780M)", "vulkan:cpu (llvmpipe"] {
            assert!(problem.contains(name), "{problem}");
        }
        let (problem, help) = chosen("vulkan", &[]).unwrap_err();
        assert_eq!(problem, "device vulkan:0: no driver on this machine shows an adapter");
        assert!(help.contains("vulkaninfo"), "{help}");
    }
}
