//! In which numbers a device computes and holds: [`Numbers`].

use burn::tensor::{DType, Device};
use serde::Serialize;

/// Numbers of 16 or 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    F32,
    F16,
    Bf16,
}

impl Numbers {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Their name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// Whether tensors of these numbers can be on a device and be computed with there.
pub fn has(device: &Device, numbers: Numbers) -> bool {
    device.supports_dtype(match numbers {
        Numbers::F32 => DType::F32,
        Numbers::F16 => DType::F16,
        Numbers::Bf16 => DType::BF16,
    })
}
