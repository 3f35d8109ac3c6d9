//! The scales of a quantized weight, themselves quantized or not.

use std::sync::Arc;

use super::{codebook::DYNAMIC, mean::mean, quantize::blockwise, scheme::QuantizationError};

/// Scales that share one of the second level.
pub(crate) const NESTED_BLOCK: usize = 256;

/// One number a block: what its codes are multiplied by.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// As they are.
    Plain(Vec<f32>),
    /// In 8 bits.
    Double(DoubleScales),
}

/// Scales less their mean, in 8-bit codes with a scale for every 256.
#[derive(Clone, Debug, PartialEq)]
pub struct DoubleScales {
    /// One a block of the weight.
    pub codes: Vec<u8>,
    /// One for every 256 of `codes`.
    pub absmax: Vec<f32>,
    /// What `codes` stand for. Written by the tool that quantized the weight; ours is [`DoubleScales::map`].
    pub map: Arc<[f32; 256]>,
    /// What was subtracted.
    pub offset: f32,
}

impl DoubleScales {
    /// The signed dynamic map.
    pub fn map() -> Arc<[f32; 256]> {
        DYNAMIC.clone()
    }

    pub(super) fn quantize(mut scales: Vec<f32>) -> Self {
        let offset = mean(&scales);
        for scale in &mut scales {
            *scale -= offset;
        }
        let (codes, absmax) = blockwise(scales.len(), NESTED_BLOCK, |index| scales[index]);
        Self { codes, absmax, map: Self::map(), offset }
    }
}

impl Scales {
    /// The scale of a block.
    #[inline(always)]
    pub fn at(&self, block: usize) -> f32 {
        match self {
            Self::Plain(scales) => scales[block],
            Self::Double(DoubleScales { codes, absmax, map, offset }) => {
                map[usize::from(codes[block])] * absmax[block / NESTED_BLOCK] + offset
            }
        }
    }

    /// Bytes in memory, without the map that all weights share.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Plain(scales) => 4 * scales.len(),
            Self::Double(DoubleScales { codes, absmax, .. }) => codes.len() + 4 * absmax.len() + 4,
        }
    }

    pub(super) fn check(&self, blocks: usize) -> Result<(), QuantizationError> {
        let size = |part, found: usize, expected: usize| {
            if found == expected { Ok(()) } else { Err(QuantizationError::Size { part, expected, found }) }
        };
        match self {
            Self::Plain(scales) => size("scales", scales.len(), blocks),
            Self::Double(DoubleScales { codes, absmax, .. }) => {
                size("scales", codes.len(), blocks)?;
                size("scales of scales", absmax.len(), blocks.div_ceil(NESTED_BLOCK))
            }
        }
    }
}
