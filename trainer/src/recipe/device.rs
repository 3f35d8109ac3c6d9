//! The device a recipe or `--device` asks for, by name. Whether this build and this machine have it is decided by whoever opens it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `auto`, `cpu`, `cuda[:N]`, `rocm[:N]`, or an adapter: `vulkan[:ADAPTER]`, `metal[:ADAPTER]`, `wgpu[:ADAPTER]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The best device this build and machine have.
    Auto,
    Cpu,
    Cuda {
        index: usize,
    },
    Rocm {
        index: usize,
    },
    /// An adapter that a graphics interface reaches.
    Graphics {
        api: GraphicsApi,
        adapter: AdapterChoice,
    },
}

/// The graphics interface through which an adapter is reached, and with it the language that kernels are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphicsApi {
    /// Vulkan alone, in SPIR-V.
    Vulkan,
    /// Metal alone, in MSL.
    Metal,
    /// Whichever of Vulkan, Metal and DirectX 12 the machine has, in WGSL unless the build knows a language of its own for it.
    Wgpu,
}

/// Which adapter of a graphics interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdapterChoice {
    /// By its number among the adapters that are hardware: discrete ones first, then integrated, virtual and other ones.
    Number(usize),
    /// By its kind, and its number among those of this kind.
    Kind(AdapterKind, usize),
    /// By a part of its name, in any case.
    Named(String),
}

/// What a driver says that an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    /// A card with its own memory.
    Discrete,
    /// A part of the processor that shares its memory.
    Integrated,
    /// A card that a virtual machine is given.
    Virtual,
    /// None of these; OpenGL does not tell.
    Other,
    /// A program on the processor. It is taken only where it is named.
    Software,
}

impl DeviceName {
    /// The values as a sentence, for help texts.
    pub const VALUES: &'static str = "auto, cpu, cuda[:N], rocm[:N], vulkan[:ADAPTER], metal[:ADAPTER], wgpu[:ADAPTER], where ADAPTER is a number, \
         discrete, integrated, virtual, cpu or a part of its name";
    /// The values as a pattern, for editors.
    pub const PATTERN: &'static str = r"^(auto|cpu|(cuda|rocm)(:[0-9]+)?|(vulkan|metal|wgpu)(:.+)?)$";

    /// The key of a recipe with this value, as `--set` takes it.
    pub fn as_override(&self) -> String {
        format!("device={}", toml::Value::String(self.to_string()))
    }
}

impl GraphicsApi {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vulkan, Self::Metal, Self::Wgpu];
}

impl fmt::Display for GraphicsApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Wgpu => "wgpu",
        })
    }
}

impl AdapterKind {
    /// Its name in lists.
    pub fn word(self) -> &'static str {
        match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Other => "other",
            Self::Software => "software",
        }
    }
}

/// As in the name of a device.
impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Software => f.write_str("cpu"),
            Self::Discrete | Self::Integrated | Self::Virtual | Self::Other => f.write_str(self.word()),
        }
    }
}

impl AdapterChoice {
    fn read(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse() {
            return Some(Self::Number(number));
        }
        let (word, number) = match text.split_once(':') {
            Some((word, number)) => (word, number.parse().ok()),
            None => (text, Some(0)),
        };
        let kind = match word {
            "discrete" => Some(AdapterKind::Discrete),
            "integrated" => Some(AdapterKind::Integrated),
            "virtual" => Some(AdapterKind::Virtual),
            "other" => Some(AdapterKind::Other),
            // Drivers show no second one.
            "cpu" | "software" => Some(AdapterKind::Software),
            _ => None,
        };
        match kind {
            Some(kind) => Some(Self::Kind(kind, number?)),
            None => (!text.trim().is_empty()).then(|| Self::Named(text.to_string())),
        }
    }
}

impl fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Kind(kind, 0) => write!(f, "{kind}"),
            Self::Kind(kind, number) => write!(f, "{kind}:{number}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("unknown device `{text}`; devices are {}", DeviceName::VALUES);
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        let index = || rest.map_or(Ok(0), |rest| rest.parse::<usize>().map_err(|_| unknown()));
        let graphics = |api| {
            let adapter = rest.map_or(Some(AdapterChoice::Number(0)), AdapterChoice::read).ok_or_else(unknown)?;
            Ok(DeviceName::Graphics { api, adapter })
        };
        match (name, rest) {
            ("auto", None) => Ok(DeviceName::Auto),
            ("cpu", None) => Ok(DeviceName::Cpu),
            ("cuda", _) => Ok(DeviceName::Cuda { index: index()? }),
            ("rocm", _) => Ok(DeviceName::Rocm { index: index()? }),
            ("vulkan", _) => graphics(GraphicsApi::Vulkan),
            ("metal", _) => graphics(GraphicsApi::Metal),
            ("wgpu", _) => graphics(GraphicsApi::Wgpu),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Auto => write!(f, "auto"),
            DeviceName::Cpu => write!(f, "cpu"),
            DeviceName::Cuda { index } => write!(f, "cuda:{index}"),
            DeviceName::Rocm { index } => write!(f, "rocm:{index}"),
            DeviceName::Graphics { api: GraphicsApi::Metal, adapter: AdapterChoice::Number(0) } => write!(f, "metal"),
            DeviceName::Graphics { api, adapter } => write!(f, "{api}:{adapter}"),
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
    use super::{AdapterChoice, AdapterKind, DeviceName, GraphicsApi};

    #[test]
    fn device_names_survive_printing() {
        for text in [
            "auto",
            "cpu",
            "cuda:1",
            "rocm:3",
            "vulkan:0",
            "metal",
            "metal:1",
            "wgpu:2",
            "wgpu:cpu",
            "vulkan:integrated",
            "vulkan:discrete:1",
            "wgpu:NVIDIA GeForce RTX 4090",
            "wgpu:llvmpipe (LLVM 15.0.6, 256 bits)",
        ] {
            let device: DeviceName = text.parse().unwrap();
            assert_eq!(device.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda { index: 0 }));
        let graphics = |api, adapter| Ok(DeviceName::Graphics { api, adapter });
        assert_eq!("wgpu".parse(), graphics(GraphicsApi::Wgpu, AdapterChoice::Number(0)));
        assert_eq!(
            "vulkan:software".parse(),
            graphics(GraphicsApi::Vulkan, AdapterChoice::Kind(AdapterKind::Software, 0))
        );
        assert_eq!("wgpu:Radeon".parse(), graphics(GraphicsApi::Wgpu, AdapterChoice::Named("Radeon".into())));
    }

    #[test]
    fn unknown_devices_are_told_the_known_ones() {
        for text in ["gpu", "cpu:1", "cuda:", "cuda:x", "rocm:cpu", "wgpu:", "wgpu: ", "wgpu:discrete:x", ""] {
            let error = text.parse::<DeviceName>().unwrap_err();
            assert!(error.contains(DeviceName::VALUES), "{text}: {error}");
        }
    }
}
