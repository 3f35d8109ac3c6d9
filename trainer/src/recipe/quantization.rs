//! `[quantization]`: the frozen base in few bits (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).

use firebrand_kernels::{FourBit, QuantizationScheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The linear maps of the blocks are quantized while they are read, and only adapters are trained. Embedding, norms,
/// routers and head stay as they are. Not needed where the model's folder is quantized already (bitsandbytes in 4 bits):
/// it is taken as it is, and this may only say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Quantization {
    Nf4(FourBitRecipe),
    Fp4(FourBitRecipe),
    Int8(EightBitRecipe),
}

/// Four bits a weight, as bitsandbytes quantizes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FourBitRecipe {
    /// Weights that share a scale: 32, 64, 128 and on to 4096 by doubling.
    #[schemars(range(min = 32, max = 4096), example = 128)]
    pub block: usize,
    /// The scales are quantized too: 0.52 instead of 0.56 bytes a weight at blocks of 64.
    #[schemars(example = false)]
    pub double: bool,
}

/// Eight bits a weight, as bitsandbytes' blockwise codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EightBitRecipe {
    /// Weights that share a scale: 32, 64, 128 and on to 4096 by doubling.
    #[schemars(range(min = 32, max = 4096), example = 128)]
    pub block: usize,
}

impl Default for FourBitRecipe {
    fn default() -> Self {
        Self { block: 64, double: true }
    }
}

impl Default for EightBitRecipe {
    fn default() -> Self {
        Self { block: 64 }
    }
}

impl Quantization {
    /// Weights that share a scale.
    pub fn block(self) -> usize {
        match self {
            Self::Nf4(recipe) | Self::Fp4(recipe) => recipe.block,
            Self::Int8(recipe) => recipe.block,
        }
    }

    /// How weights are quantized.
    pub fn scheme(self) -> QuantizationScheme {
        let four = |code, recipe: FourBitRecipe| QuantizationScheme::FourBit {
            code,
            block: recipe.block,
            double: recipe.double,
        };
        match self {
            Self::Nf4(recipe) => four(FourBit::Nf4, recipe),
            Self::Fp4(recipe) => four(FourBit::Fp4, recipe),
            Self::Int8(recipe) => QuantizationScheme::Int8 { block: recipe.block },
        }
    }
}

impl From<QuantizationScheme> for Quantization {
    fn from(scheme: QuantizationScheme) -> Self {
        match scheme {
            QuantizationScheme::FourBit { code: FourBit::Nf4, block, double } => {
                Self::Nf4(FourBitRecipe { block, double })
            }
            QuantizationScheme::FourBit { code: FourBit::Fp4, block, double } => {
                Self::Fp4(FourBitRecipe { block, double })
            }
            QuantizationScheme::Int8 { block } => Self::Int8(EightBitRecipe { block }),
        }
    }
}
