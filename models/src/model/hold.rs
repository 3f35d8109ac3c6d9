//! [`Hold`]: how the weights of a model are held in memory.

use firebrand_kernels::QuantizationScheme;

/// How the matrices of the blocks are held in memory. Where that is in fewer bits than f32, frozen token tables and heads are held as files
/// store them, on devices that read them so; all other parameters are f32. Weights that a folder has quantized
/// stay as they are: then [`Hold::Quantized`] must name their scheme, and the other variants apply to the matrices not
/// quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// 4 bytes per parameter.
    F32,
    /// 2 bytes; exact when the file is bf16.
    Bf16,
    /// 2 bytes; exact when the file is f16.
    F16,
    /// Quantized while they are read, tensor by tensor: about half a byte per parameter in 4 bits, about one in 8 bits.
    Quantized(QuantizationScheme),
}
