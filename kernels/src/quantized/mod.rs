//! Frozen weights in 4 or 8 bits: NF4, FP4 and 8-bit codes in blocks that share a scale, bit-compatible with bitsandbytes 0.50.
//!
//! The numbers lie in row-major order, two a byte (the first in the high half), and blocks run across the ends of rows. A dequantized
//! number is `value of the code * scale of the block`, rounded once to f32. bitsandbytes rounds it again to the dtype the weight came
//! in ([`QuantizedWeight::dtype`]); here products are in f32, so the number stays.
//!
//! What is unusual: bitsandbytes' AVX-512 code gives rows the wrong scales where their length is a multiple of 16 but not of the block. Its
//! other code, and this, follow the definition. Not here: outlier columns (`LLM.int8`), and the names in files.

mod codebook;
mod mean;
mod quantize;
mod scales;
mod scheme;

#[cfg(feature = "cube")]
pub(crate) use scales::NESTED_BLOCK;
pub use scales::{DoubleScales, Scales};
pub use scheme::{FourBit, QuantizationError, QuantizationScheme};

use burn::tensor::{DType, Device, Tensor, TensorData};
use codebook::{DYNAMIC, FourBitBook};
use rayon::prelude::*;
#[cfg(feature = "cube")]
use std::sync::Arc;

use crate::cpu::vectorised;
#[cfg(target_arch = "x86_64")]
use crate::cpu::{CODES, LookupInstructions, look_up};

/// A frozen matrix `[out, in]` in few bits. Shared by handle (`Arc`): it never changes.
#[derive(Clone)]
pub struct QuantizedWeight {
    shape: [usize; 2],
    scheme: QuantizationScheme,
    dtype: DType,
    codes: Vec<u8>,
    scales: Scales,
    #[cfg(feature = "cube")]
    copies: Arc<crate::cube::Copies>,
}

impl QuantizedWeight {
    /// A weight from its parts, as a file has them: `codes` two a byte or one a byte, a scale a block.
    ///
    /// # Errors
    /// A part whose size does not fit shape and quantization; a block that the format does not have.
    pub fn from_parts(
        shape: [usize; 2],
        scheme: QuantizationScheme,
        dtype: DType,
        codes: Vec<u8>,
        scales: Scales,
    ) -> Result<Self, QuantizationError> {
        scheme.check()?;
        let Some(numbers) = shape[0].checked_mul(shape[1]) else {
            return Err(QuantizationError::Shape(shape.to_vec()));
        };
        let (expected, found) = (scheme.code_bytes(numbers), codes.len());
        if found != expected {
            return Err(QuantizationError::Size { part: "codes", expected, found });
        }
        scales.check(numbers.div_ceil(scheme.block()))?;
        Ok(Self::new(shape, scheme, dtype, codes, scales))
    }

    /// A weight of parts that fit.
    fn new(shape: [usize; 2], scheme: QuantizationScheme, dtype: DType, codes: Vec<u8>, scales: Scales) -> Self {
        Self {
            shape,
            scheme,
            dtype,
            codes,
            scales,
            #[cfg(feature = "cube")]
            copies: Arc::default(),
        }
    }

    /// What CubeCL's devices have of it.
    #[cfg(feature = "cube")]
    pub(crate) fn copies(&self) -> &crate::cube::Copies {
        &self.copies
    }

    /// `[out, in]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// How it is quantized.
    pub fn scheme(&self) -> QuantizationScheme {
        self.scheme
    }

    /// The precision it was quantized from.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Codes, row-major; for 4 bits two a byte, the first in the high half.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Scales of the blocks.
    pub fn scales(&self) -> &Scales {
        &self.scales
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.bytes()
    }

    /// Parameters: `out * in`.
    pub fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Whether it has no parameters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All numbers in f32, row-major.
    pub fn values(&self) -> Vec<f32> {
        const PIECE: usize = 1 << 14;
        let mut values = vec![0.0; self.len()];
        values.par_chunks_mut(PIECE).enumerate().for_each(|(index, values)| {
            vectorised(
                #[inline(always)]
                || self.widen(index * PIECE, values),
            )
        });
        values
    }

    /// The dense matrix `[out, in]` in f32.
    pub fn dequantize(&self, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.values(), self.shape), (device, DType::F32))
    }

    /// The numbers from the `first` on, in row-major order.
    #[inline(always)]
    pub(crate) fn widen(&self, mut first: usize, mut out: &mut [f32]) {
        let block = self.scheme.block();
        while !out.is_empty() {
            let index = first / block;
            let count = ((index + 1) * block - first).min(out.len());
            let (now, rest) = out.split_at_mut(count);
            let scale = self.scales.at(index);
            match self.scheme {
                QuantizationScheme::FourBit { code, .. } => self.widen_four_bit(code.book(), scale, first, now),
                QuantizationScheme::Int8 { .. } => {
                    let map = &**DYNAMIC;
                    for (to, code) in now.iter_mut().zip(&self.codes[first..first + count]) {
                        *to = map[usize::from(*code)] * scale;
                    }
                }
            }
            first += count;
            out = rest;
        }
    }

    /// `scale` times what 4-bit codes stand for.
    #[inline(always)]
    fn widen_four_bit(&self, book: &FourBitBook, scale: f32, first: usize, mut out: &mut [f32]) {
        let number = |[high, low]: [f32; 2]| [high * scale, low * scale];
        let mut codes = &self.codes[first / 2..];
        if first % 2 == 1 {
            let (Some((low, rest)), Some((code, others))) = (out.split_first_mut(), codes.split_first()) else {
                return;
            };
            *low = number(book.pairs[usize::from(*code)])[1];
            (out, codes) = (rest, others);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(instructions) = LookupInstructions::chosen() {
            let (whole, rest) = out.as_chunks_mut::<{ 2 * CODES }>();
            let (of_whole, others) = codes.split_at(whole.len() * CODES);
            look_up(instructions, &book.values, scale, of_whole.as_chunks().0, whole);
            (out, codes) = (rest, others);
        }
        let (whole, last) = out.as_chunks_mut::<2>();
        for (pair, code) in whole.iter_mut().zip(codes) {
            *pair = number(book.pairs[usize::from(*code)]);
        }
        if let ([high], Some(code)) = (last, codes.get(whole.len())) {
            *high = number(book.pairs[usize::from(*code)])[0];
        }
    }
}

impl PartialEq for QuantizedWeight {
    fn eq(&self, other: &Self) -> bool {
        let parts = |weight: &Self| (weight.shape, weight.scheme, weight.dtype);
        parts(self) == parts(other) && self.codes == other.codes && self.scales == other.scales
    }
}

impl std::fmt::Debug for QuantizedWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shape, scheme, dtype, .. } = self;
        write!(f, "QuantizedWeight({shape:?}, {scheme:?} of {dtype:?}, {} bytes)", self.bytes())
    }
}

#[cfg(test)]
mod tests;
