//! [`Precision`]: in which numbers a product reads its operands.

use burn::tensor::{DType, Tensor};

/// In which numbers a product reads its operands. Its sums are in f32, and so is its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As they are: f32, or 16-bit and quantized numbers without rounding.
    #[default]
    F32,
    /// Rounded to bf16, to the nearest, of two equally near ones to the even. Products of
    /// a few rows are limited by memory and read as with [`Self::F32`].
    Bf16,
    /// As with [`Self::F32`], and rounded to TF32 (10 bits of mantissa) on devices whose matrix units want that. On the CPU as they are.
    Tf32,
}

impl Precision {
    /// An operand in this precision, in f32.
    pub(crate) fn round<const D: usize>(self, operand: Tensor<D>) -> Tensor<D> {
        match self {
            Self::F32 | Self::Tf32 => operand.cast(DType::F32),
            Self::Bf16 => operand.cast(DType::BF16).cast(DType::F32),
        }
    }
}

/// The nearest bf16 number, as the high half of an f32.
#[inline(always)]
pub(crate) fn nearest_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // What is no number stays none: rounding could make an infinity of it.
    let quiet = (bits >> 16) | 0x40;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { rounded }) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::bf16;

    #[test]
    fn rounding_is_that_of_the_library() {
        let mut bits = 1u32;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(bits);
            assert_eq!(nearest_bf16(value), bf16::from_f32(value).to_bits(), "{bits:x}");
        }
        for value in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE, 1e-45] {
            assert_eq!(nearest_bf16(value), bf16::from_f32(value).to_bits(), "{value}");
        }
        // Halfway between two: to the even one.
        assert_eq!(nearest_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(nearest_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
    }
}
