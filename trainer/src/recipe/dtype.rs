//! The number formats a recipe can name, by role: what is computed with, and what is stored.
//!
//! Two types, because they have different values: every stored format can be read, only some can be computed with.

use firebrand_kernels::{FourBit, QuantizationScheme};
use firebrand_models::WriteAs;
use firebrand_models::weights::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What products read their operands in. Sums, activations, gradients and trained weights are in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    #[default]
    F32,
    Bf16,
    /// `bf16` where the processor has instructions for it, else `f32`.
    Auto,
}

impl ComputeDtype {
    /// Its name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Auto => "auto",
        }
    }
}

/// What weights are held or written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoredDtype {
    F32,
    Bf16,
    F16,
}

/// What a finished model is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WrittenDtype {
    F32,
    Bf16,
    F16,
    /// The linear maps in 4 bits, as bitsandbytes and transformers read them.
    Nf4,
    /// The same with another code.
    Fp4,
}

impl WrittenDtype {
    /// As models know it; 4 bits are QLoRA's, with quantized scales.
    pub fn write_as(self) -> WriteAs {
        let four_bits = |code| QuantizationScheme::FourBit { code, block: 64, double: true };
        match self {
            Self::F32 => WriteAs::Dense(Dtype::F32),
            Self::Bf16 => WriteAs::Dense(Dtype::BF16),
            Self::F16 => WriteAs::Dense(Dtype::F16),
            Self::Nf4 => WriteAs::Quantized(four_bits(FourBit::Nf4)),
            Self::Fp4 => WriteAs::Quantized(four_bits(FourBit::Fp4)),
        }
    }
}
