//! The device a recipe or `--device` asks for, by name. Whether this build has it is decided by whoever opens it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `auto`, `cpu`, `cuda[:N]`, `vulkan[:N]`, `metal` or `rocm[:N]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The best device this build and machine have.
    Auto,
    Cpu,
    Cuda {
        index: usize,
    },
    Vulkan {
        index: usize,
    },
    Metal,
    Rocm {
        index: usize,
    },
}

impl DeviceName {
    /// The values as a sentence, for help texts.
    pub const VALUES: &'static str = "auto, cpu, cuda[:N], vulkan[:N], metal, rocm[:N]";
    /// The values as a pattern, for editors.
    pub const PATTERN: &'static str = r"^(auto|cpu|metal|(cuda|vulkan|rocm)(:[0-9]+)?)$";
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("unknown device `{text}`; devices are {}", DeviceName::VALUES);
        let (name, index) = match text.split_once(':') {
            Some((name, index)) => (name, Some(index.parse::<usize>().map_err(|_| unknown())?)),
            None => (text, None),
        };
        match (name, index) {
            ("auto", None) => Ok(DeviceName::Auto),
            ("cpu", None) => Ok(DeviceName::Cpu),
            ("metal", None) => Ok(DeviceName::Metal),
            ("cuda", index) => Ok(DeviceName::Cuda { index: index.unwrap_or(0) }),
            ("vulkan", index) => Ok(DeviceName::Vulkan { index: index.unwrap_or(0) }),
            ("rocm", index) => Ok(DeviceName::Rocm { index: index.unwrap_or(0) }),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Auto => write!(f, "auto"),
            DeviceName::Cpu => write!(f, "cpu"),
            DeviceName::Metal => write!(f, "metal"),
            DeviceName::Cuda { index } => write!(f, "cuda:{index}"),
            DeviceName::Vulkan { index } => write!(f, "vulkan:{index}"),
            DeviceName::Rocm { index } => write!(f, "rocm:{index}"),
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<DeviceName> for String {
    fn from(device: DeviceName) -> String {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceName;

    #[test]
    fn device_names_survive_printing() {
        for text in ["auto", "cpu", "cuda:1", "vulkan:0", "metal", "rocm:3"] {
            let device: DeviceName = text.parse().unwrap();
            assert_eq!(device.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda { index: 0 }));
    }

    #[test]
    fn unknown_devices_are_told_the_known_ones() {
        for text in ["gpu", "cpu:1", "cuda:", "cuda:x", "metal:0", ""] {
            let error = text.parse::<DeviceName>().unwrap_err();
            assert!(error.contains(DeviceName::VALUES), "{text}: {error}");
        }
    }
}
