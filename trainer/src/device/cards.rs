//! Devices that are reached by their maker's own interface and counted by it: CUDA and ROCm.

use burn::tensor::Device;

#[cfg(any(feature = "cuda", feature = "rocm"))]
use super::failure;
use super::opened::{Hardware, left_out, started};
use crate::error::Error;
use crate::recipe::DeviceName;

/// Whose interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// CUDA.
    Nvidia,
    /// ROCm.
    Amd,
}

impl Maker {
    fn device(self, index: usize) -> DeviceName {
        match self {
            Self::Nvidia => DeviceName::Cuda { index },
            Self::Amd => DeviceName::Rocm { index },
        }
    }

    pub fn feature(self) -> &'static str {
        match self {
            Self::Nvidia => "cuda",
            Self::Amd => "rocm",
        }
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Nvidia => cfg!(feature = "cuda"),
            Self::Amd => cfg!(feature = "rocm"),
        }
    }

    /// What makes a card visible.
    fn remedy(self) -> &'static str {
        match self {
            Self::Nvidia => "install NVIDIA's driver (`nvidia-smi` must list the card), or use --device cpu",
            Self::Amd => {
                "install ROCm (`rocminfo` must list the card, and this user must be in the groups render and video), or use --device cpu"
            }
        }
    }

    /// The version of the kernel's driver.
    fn driver(self) -> Option<String> {
        let read = |file: &str| std::fs::read_to_string(file).ok();
        match self {
            // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue .."
            Self::Nvidia => {
                let text = read("/proc/driver/nvidia/version")?;
                let version = text
                    .lines()
                    .next()?
                    .split_whitespace()
                    .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
                Some(format!("NVIDIA {version}"))
            }
            Self::Amd => read("/sys/module/amdgpu/version").map(|version| format!("amdgpu {}", version.trim())),
        }
    }
}

/// How many devices there are; none where the driver is missing.
pub fn count(maker: Maker) -> usize {
    all(maker).len()
}

/// The device of that number.
///
/// # Errors
/// It is not compiled in, not there, or does not compute.
pub fn open(maker: Maker, index: usize) -> Result<Device, Error> {
    let name = maker.device(index);
    if !maker.is_built() {
        return Err(left_out(&name, maker.feature()));
    }
    let devices = all(maker);
    let device = devices.get(index).cloned().ok_or_else(|| missing(maker, index, devices.len()))?;
    started(&name, hardware(maker, index).as_ref(), device)
}

/// Name and driver.
pub fn hardware(maker: Maker, index: usize) -> Option<Hardware> {
    let name = all(maker).get(index).and_then(named)?;
    Some(Hardware { name, driver: maker.driver() })
}

fn missing(maker: Maker, index: usize, there: usize) -> Error {
    let name = maker.device(index);
    let (problem, help) = match there {
        0 => (format!("device {name}: this machine shows no {} device", maker.feature()), maker.remedy().to_string()),
        1 => (
            format!("device {name}: there is one, {}", maker.device(0)),
            "`firebrand devices` lists what there is".into(),
        ),
        _ => (
            format!("device {name}: there are {there}, {} to {}", maker.device(0), maker.device(there - 1)),
            "`firebrand devices` lists what there is".into(),
        ),
    };
    Error::Request { problem, help }
}

#[cfg(any(feature = "cuda", feature = "rocm"))]
fn all(maker: Maker) -> Vec<Device> {
    use burn::tensor::DeviceType;
    let kind = match maker {
        #[cfg(feature = "cuda")]
        Maker::Nvidia => DeviceType::Cuda,
        #[cfg(feature = "rocm")]
        Maker::Amd => DeviceType::Rocm,
        #[allow(unreachable_patterns)] // A build may have one of the two.
        _ => return vec![],
    };
    // The interface of a driver that is half installed panics.
    failure::quietly(|| Device::enumerate(kind).into_vec()).unwrap_or_default()
}

#[cfg(not(any(feature = "cuda", feature = "rocm")))]
fn all(_: Maker) -> Vec<Device> {
    vec![]
}

#[cfg(any(feature = "cuda", feature = "rocm"))]
fn named(device: &Device) -> Option<String> {
    failure::quietly(|| device.identity().map(|identity| identity.name)).ok().flatten()
}

#[cfg(not(any(feature = "cuda", feature = "rocm")))]
fn named(_: &Device) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_is_not_there_is_told_with_those_that_are() {
        let told = |there| missing(Maker::Nvidia, 3, there).to_string();
        assert_eq!(told(0), "device cuda:3: this machine shows no cuda device");
        assert_eq!(told(1), "device cuda:3: there is one, cuda:0");
        assert_eq!(told(2), "device cuda:3: there are 2, cuda:0 to cuda:1");
    }
}
