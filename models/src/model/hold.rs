//! How a model is held in memory.

use firebrand_kernels::QuantizationScheme;

/// How the matrices of the blocks are held in memory; everything else is f32. What a folder has quantized is held as it is: then
/// [`Hold::Quantized`] may only name the scheme that is there, and the others are about what is not quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// 4 bytes a parameter.
    F32,
    /// 2 bytes; exact when the file is bf16.
    Bf16,
    /// 2 bytes; exact when the file is f16.
    F16,
    /// Quantized while they are read, tensor by tensor: about half a byte in 4 bits, about one in 8.
    Quantized(QuantizationScheme),
}
