//! How a weight is quantized, and what can be wrong with one.

use std::fmt;

use super::codebook::{FP4, FourBitBook, NF4};
use burn::tensor::DType;

/// How many numbers share a scale in QLoRA.
const USUAL_BLOCK: usize = 64;
/// Blocks of the format.
const BLOCKS: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// The sixteen numbers of a 4-bit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FourBit {
    /// Quantiles of the normal distribution.
    Nf4,
    /// A sign, two bits of exponent, one of fraction.
    Fp4,
}

impl FourBit {
    /// What the codes stand for, in their order.
    pub fn values(self) -> [f32; 16] {
        self.book().values
    }

    pub(super) fn book(self) -> &'static FourBitBook {
        match self {
            Self::Nf4 => &NF4,
            Self::Fp4 => &FP4,
        }
    }
}

/// How the numbers of a weight are quantized. A block is so many numbers in row-major order, across the ends of rows;
/// each has one scale, its largest magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantizationScheme {
    /// Two numbers a byte.
    FourBit {
        /// Which numbers.
        code: FourBit,
        /// Numbers a scale.
        block: usize,
        /// Whether the scales are quantized too, in 8 bits, around their mean.
        double: bool,
    },
    /// One number a byte, from the signed dynamic map.
    Int8 {
        /// Numbers a scale.
        block: usize,
    },
}

impl QuantizationScheme {
    /// QLoRA's: NF4, blocks of 64, quantized scales. 0.516 bytes a parameter.
    pub const NF4: Self = Self::FourBit { code: FourBit::Nf4, block: USUAL_BLOCK, double: true };
    /// 8 bits, blocks of 64. 1.0625 bytes a parameter.
    pub const INT8: Self = Self::Int8 { block: USUAL_BLOCK };

    /// Numbers a scale.
    pub fn block(self) -> usize {
        match self {
            Self::FourBit { block, .. } | Self::Int8 { block } => block,
        }
    }

    /// Bytes of the codes of so many numbers.
    pub fn code_bytes(self, numbers: usize) -> usize {
        match self {
            Self::FourBit { .. } => numbers.div_ceil(2),
            Self::Int8 { .. } => numbers,
        }
    }

    pub(super) fn check(self) -> Result<(), QuantizationError> {
        let block = self.block();
        if BLOCKS.contains(&block) { Ok(()) } else { Err(QuantizationError::Block(block)) }
    }
}

impl fmt::Display for FourBit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nf4 => "nf4",
            Self::Fp4 => "fp4",
        })
    }
}

impl fmt::Display for QuantizationScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FourBit { code, block, double } => {
                write!(f, "{code} in blocks of {block}{}", if *double { ", scales quantized" } else { "" })
            }
            Self::Int8 { block } => write!(f, "int8 in blocks of {block}"),
        }
    }
}

/// What a quantized weight cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantizationError {
    /// A block that the format does not have.
    #[error("blocks are 32, 64, 128, 256, 512, 1024, 2048 or 4096 numbers, not {0}")]
    Block(usize),
    /// A weight that is no matrix.
    #[error("a quantized weight is a matrix, not of shape {0:?}")]
    Shape(Vec<usize>),
    /// Values that are no floats of 32 or 16 bits.
    #[error("values to quantize are f32, f16 or bf16, not {0:?}")]
    Dtype(DType),
    /// A value that no scale reaches.
    #[error("value {index} is {value}, which cannot be quantized")]
    NotFinite {
        /// In row-major order.
        index: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// Scales whose mean, which double quantization takes, is beyond f32.
    #[error("the scales of the blocks from value {index} on are too large to be quantized themselves")]
    Scale {
        /// The first value of the block, in row-major order.
        index: usize,
    },
    /// A part with more or fewer elements than shape and quantization ask for.
    #[error("{part}: expected {expected} elements for this shape, found {found}")]
    Size {
        /// `codes`, `scales`, ...
        part: &'static str,
        /// Asked for.
        expected: usize,
        /// There.
        found: usize,
    },
}
