//! From numbers to codes, as bitsandbytes rounds them on the CPU.
//!
//! Both threads work on pieces of whole blocks, so nothing depends on their number. A block of zeros keeps the scale zero. 4-bit codes:
//! the last block, where it is short, is divided by its scale; whole ones are multiplied by the inverse. These differ in the last bit.

use burn::tensor::{DType, Element};
use burn::tensor::{TensorData, bf16, f16};
use rayon::prelude::*;

use super::{
    QuantizedWeight,
    codebook::{DynamicCodes, FourBitBook},
    scales::{DoubleScales, Scales},
    scheme::{QuantizationError, QuantizationScheme},
};

/// Blocks a task quantizes.
const TASK_BLOCKS: usize = 64;
/// Where a scale stops to have an inverse that is finite.
const SMALLEST: f32 = 1e-38;

impl QuantizedWeight {
    /// Quantizes a matrix `[out, in]` of f32, f16 or bf16.
    ///
    /// # Errors
    /// No matrix, no float, a block that the format does not have, a value that is not finite.
    pub fn quantize(values: &TensorData, scheme: QuantizationScheme) -> Result<Self, QuantizationError> {
        let [out, input] = values.shape()[..] else { return Err(QuantizationError::Shape(values.shape().to_vec())) };
        scheme.check()?;
        let dtype = values.dtype();
        let unreadable = |_| QuantizationError::Dtype(dtype);
        let (codes, scales) = match dtype {
            DType::F32 => quantize(values.as_slice::<f32>().map_err(unreadable)?, scheme),
            DType::F16 => quantize(values.as_slice::<f16>().map_err(unreadable)?, scheme),
            DType::BF16 => quantize(values.as_slice::<bf16>().map_err(unreadable)?, scheme),
            other => Err(QuantizationError::Dtype(other)),
        }?;
        Self::from_parts([out, input], scheme, dtype, codes, scales)
    }
}

fn quantize<T: Element>(values: &[T], scheme: QuantizationScheme) -> Result<(Vec<u8>, Scales), QuantizationError> {
    let value = |index: usize| values[index].elem::<f32>();
    let (codes, scales) = match scheme {
        QuantizationScheme::FourBit { code, block, .. } => four_bit(code.book(), values.len(), block, value),
        QuantizationScheme::Int8 { block } => blockwise(values.len(), block, value),
    };
    // The largest magnitude of a block is infinite or NaN exactly if one of its numbers is.
    if let Some(block) = scales.iter().position(|scale| !scale.is_finite()) {
        let mut place = block * scheme.block()..values.len();
        let index = place.find(|index| !value(*index).is_finite()).unwrap_or_default();
        return Err(QuantizationError::NotFinite { index, value: value(index) });
    }
    let scales = match scheme {
        QuantizationScheme::FourBit { double: true, .. } => Scales::Double(DoubleScales::quantize(scales)),
        QuantizationScheme::FourBit { double: false, .. } | QuantizationScheme::Int8 { .. } => Scales::Plain(scales),
    };
    let blocks = values.len().div_ceil(scheme.block());
    match (0..blocks).find(|block| !scales.at(*block).is_finite()) {
        None => Ok((codes, scales)),
        Some(block) => Err(QuantizationError::Scale { index: block * scheme.block() }),
    }
}

/// 4-bit codes of `len` numbers, two a byte, and the scale of each block.
fn four_bit(book: &FourBitBook, len: usize, block: usize, value: impl Fn(usize) -> f32 + Sync) -> (Vec<u8>, Vec<f32>) {
    let mut codes = vec![0; len.div_ceil(2)];
    let mut scales = vec![0.0; len.div_ceil(block)];
    let tasks = codes.par_chunks_mut(TASK_BLOCKS * block / 2).zip(scales.par_chunks_mut(TASK_BLOCKS)).enumerate();
    tasks.for_each(|(task, (codes, scales))| {
        let mut numbers = vec![0.0; block];
        let blocks = codes.chunks_mut(block / 2).zip(scales).enumerate();
        for (index, (codes, scale)) in blocks {
            let first = (task * TASK_BLOCKS + index) * block;
            let count = block.min(len - first);
            let numbers = &mut numbers[..count.next_multiple_of(2)];
            // Where the count is odd, the last half byte is the code of zero.
            numbers.fill(0.0);
            for (index, number) in numbers[..count].iter_mut().enumerate() {
                *number = value(first + index);
            }
            *scale = largest(numbers);
            if count == block {
                let inverse = 1.0 / scale.max(SMALLEST);
                numbers.iter_mut().for_each(|number| *number *= inverse);
            } else {
                *scale = at_least(*scale, SMALLEST);
                numbers.iter_mut().for_each(|number| *number /= *scale);
            }
            for (byte, pair) in codes.iter_mut().zip(numbers.as_chunks::<2>().0) {
                let [high, low] = pair.map(|number| book.code(number));
                *byte = high << 4 | low;
            }
        }
    });
    (codes, scales)
}

/// 8-bit codes of `len` numbers, and the scale of each block.
pub(super) fn blockwise(len: usize, block: usize, value: impl Fn(usize) -> f32 + Sync) -> (Vec<u8>, Vec<f32>) {
    let dynamic = DynamicCodes::new();
    let mut codes = vec![0; len];
    let mut scales = vec![0.0; len.div_ceil(block)];
    codes.par_chunks_mut(block).zip(&mut scales).with_min_len(TASK_BLOCKS).enumerate().for_each(
        |(index, (codes, scale))| {
            let numbers: Vec<f32> = (0..codes.len()).map(|place| value(index * block + place)).collect();
            *scale = largest(&numbers);
            // A block of zeros has the code zero, whatever that stands for.
            if *scale != 0.0 {
                let inverse = 1.0 / *scale;
                for (code, number) in codes.iter_mut().zip(&numbers) {
                    *code = dynamic.code(number * inverse);
                }
            }
        },
    );
    (codes, scales)
}

/// The largest magnitude; NaN if there is one.
fn largest(numbers: &[f32]) -> f32 {
    let mut largest = 0.0f32;
    for number in numbers {
        let size = number.abs();
        largest = if size > largest || size.is_nan() { size } else { largest };
    }
    largest
}

/// As `max`, but NaN stays.
fn at_least(value: f32, bound: f32) -> f32 {
    if value < bound { bound } else { value }
}
