//! Element types of stored tensors: [`Dtype`] converts them to and from f32.
//!
//! Rounding to f16 and bf16 is to nearest, ties to even, as in torch; NaN stays NaN. Stored numbers are little-endian
//! and may have any alignment. Not here: floats of 8 bits and fewer, which are refused by name when a file is opened.

use std::fmt;

use half::{bf16, f16};

/// Element type. The order is that in which safetensors files lay tensors out (the last variant comes first).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    Bool,
    U8,
    I8,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
}

impl Dtype {
    const ALL: [Dtype; 13] = [
        Dtype::Bool,
        Dtype::U8,
        Dtype::I8,
        Dtype::I16,
        Dtype::U16,
        Dtype::F16,
        Dtype::BF16,
        Dtype::I32,
        Dtype::U32,
        Dtype::F32,
        Dtype::F64,
        Dtype::I64,
        Dtype::U64,
    ];

    /// The name in a safetensors header: `BF16`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "BOOL",
            Dtype::U8 => "U8",
            Dtype::I8 => "I8",
            Dtype::I16 => "I16",
            Dtype::U16 => "U16",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::I32 => "I32",
            Dtype::U32 => "U32",
            Dtype::F32 => "F32",
            Dtype::F64 => "F64",
            Dtype::I64 => "I64",
            Dtype::U64 => "U64",
        }
    }

    /// The name in `config.json` and in the states of quantized weights, such as `bfloat16`; `float32` for all but f16
    /// and bf16.
    pub fn torch_name(self) -> &'static str {
        match self {
            Dtype::BF16 => "bfloat16",
            Dtype::F16 => "float16",
            _ => "float32",
        }
    }

    /// The name in recipes and messages: `bf16`.
    pub fn short_name(self) -> String {
        self.name().to_lowercase()
    }

    /// The dtype of that name in a safetensors header, if it can be read.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::I16 | Dtype::U16 | Dtype::F16 | Dtype::BF16 => 2,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 4,
            Dtype::F64 | Dtype::I64 | Dtype::U64 => 8,
        }
    }

    /// Number of bytes of a tensor of this dtype and `shape`; `None` when it overflows.
    pub fn bytes(self, shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(self.size(), |bytes, &dim| bytes.checked_mul(dim))
    }

    /// Converts little-endian bytes to f32; `None` for a dtype that is not a float. f64 is rounded and may overflow to
    /// infinity.
    pub fn decode(self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self {
            Dtype::F32 => decode_each(bytes, f32::from_le_bytes),
            Dtype::F16 => decode_each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            // A bf16 is the upper half of an f32.
            Dtype::BF16 => decode_each(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Dtype::F64 => decode_each(bytes, |b| f64::from_le_bytes(b) as f32),
            _ => return None,
        })
    }

    /// Converts f32 to little-endian bytes, rounded to nearest-even; `None` for a dtype that is not a float.
    pub fn encode(self, values: &[f32]) -> Option<Vec<u8>> {
        Some(match self {
            Dtype::F32 => encode_each(values, f32::to_le_bytes),
            Dtype::F16 => encode_each(values, |v| f16::from_f32(v).to_le_bytes()),
            Dtype::BF16 => encode_each(values, |v| bf16::from_f32(v).to_le_bytes()),
            Dtype::F64 => encode_each(values, |v| f64::from(v).to_le_bytes()),
            _ => return None,
        })
    }

    /// The largest finite number, of a float; f32's for f64, because values are f32 in memory.
    pub fn largest(self) -> f32 {
        match self {
            Dtype::F16 => f16::MAX.to_f32(),
            Dtype::BF16 => bf16::MAX.to_f32(),
            _ => f32::MAX,
        }
    }

    /// Index and value of the first number that this float cannot hold: NaN, an infinity, or a number that rounding
    /// makes infinite.
    pub fn first_beyond(self, values: &[f32]) -> Option<(usize, f32)> {
        // Half-way between the largest number and the next one, which would be even: from here on all round up.
        let end = match self {
            Dtype::F16 => 65_520.0,
            Dtype::BF16 => f32::from_bits(0x7f7f_8000),
            _ => f32::INFINITY,
        };
        // NaN is not below it either.
        let beyond = |value: &f32| !matches!(value.abs().partial_cmp(&end), Some(std::cmp::Ordering::Less));
        let index = values.iter().position(beyond)?;
        Some((index, values[index]))
    }

    /// Index and value of the first element that is not a finite f32. Integers always are.
    pub(super) fn first_non_finite(self, bytes: &[u8]) -> Option<(usize, f64)> {
        // In the small formats an exponent of all ones means infinity or NaN, which can be seen without a conversion.
        match self {
            Dtype::F32 => first(bytes, |b| !f32::from_le_bytes(b).is_finite(), |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F16 => {
                first(bytes, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00, |b| f16::from_le_bytes(b).to_f64())
            }
            Dtype::BF16 => {
                first(bytes, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80, |b| bf16::from_le_bytes(b).to_f64())
            }
            Dtype::F64 => first(bytes, |b| !(f64::from_le_bytes(b) as f32).is_finite(), f64::from_le_bytes),
            _ => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn decode_each<const N: usize>(bytes: &[u8], decode: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&element| decode(element)).collect()
}

fn encode_each<const N: usize>(values: &[f32], encode: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * N];
    for (slot, &value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
        *slot = encode(value);
    }
    bytes
}

/// Index and value of the first `bad` element. Checks whole blocks, which compiles to vector instructions.
fn first<const N: usize>(
    bytes: &[u8],
    bad: impl Fn([u8; N]) -> bool,
    value: impl Fn([u8; N]) -> f64,
) -> Option<(usize, f64)> {
    const BLOCK: usize = 4096;
    let elements: &[[u8; N]] = bytes.as_chunks().0;
    let any_bad = |block: &&[[u8; N]]| block.iter().fold(false, |any, &element| any | bad(element));
    let block = elements.chunks(BLOCK).position(|block| any_bad(&block))?;
    let index = (block * BLOCK..elements.len()).find(|&index| bad(elements[index]))?;
    Some((index, value(elements[index])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From torch: `torch.tensor([..]).to(torch.bfloat16 / torch.float16).view(torch.uint16)`.
    #[test]
    fn rounding_to_halves_matches_torch() {
        let values = [
            1.0,
            -0.0,
            1.003_906_2,    // halfway between two bf16, even below
            1.011_718_8,    // halfway between two bf16, even above
            1.000_488_3,    // halfway between two f16, even below
            1.001_464_8,    // halfway between two f16, even above
            65_519.996,     // largest that stays finite in f16
            65_520.0,       // smallest that does not
            5.960_464_5e-8, // smallest subnormal f16
            2.980_232_2e-8, // half of it: rounds to even, zero
            1e-40,
            f32::MAX,
            f32::INFINITY,
            f32::NEG_INFINITY,
        ];
        let bf16_bits: [u16; 14] = [
            0x3f80, 0x8000, 0x3f80, 0x3f82, 0x3f80, 0x3f80, 0x4780, 0x4780, 0x3380, 0x3300, 0x0001, 0x7f80, 0x7f80,
            0xff80,
        ];
        let f16_bits: [u16; 14] = [
            0x3c00, 0x8000, 0x3c04, 0x3c0c, 0x3c00, 0x3c02, 0x7bff, 0x7c00, 0x0001, 0x0000, 0x0000, 0x7c00, 0x7c00,
            0xfc00,
        ];
        let bits = |dtype: Dtype| -> Vec<u16> {
            let bytes = dtype.encode(&values).unwrap();
            bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
        };
        assert_eq!(bits(Dtype::BF16), bf16_bits);
        assert_eq!(bits(Dtype::F16), f16_bits);
    }

    #[test]
    fn nan_stays_nan_even_when_only_low_bits_say_so() {
        let quiet_in_low_bits = f32::from_bits(0x7f80_0001);
        for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
            let bytes = dtype.encode(&[f32::NAN, quiet_in_low_bits]).unwrap();
            assert!(dtype.decode(&bytes).unwrap().iter().all(|v| v.is_nan()), "{dtype}");
        }
    }

    #[test]
    fn every_half_survives_the_way_through_f32() {
        for dtype in [Dtype::F16, Dtype::BF16] {
            let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
            let values = dtype.decode(&all).unwrap();
            let back = dtype.encode(&values).unwrap();
            for ((value, before), after) in values.iter().zip(all.chunks(2)).zip(back.chunks(2)) {
                assert!(value.is_nan() || before == after, "{dtype} {before:?} {after:?}");
            }
        }
    }

    #[test]
    fn decoding_takes_any_alignment() {
        let mut bytes = vec![0xff];
        bytes.extend(1.5f32.to_le_bytes());
        assert_eq!(Dtype::F32.decode(&bytes[1..]), Some(vec![1.5]));
        assert_eq!(Dtype::I64.decode(&[0; 8]), None);
    }

    #[test]
    fn the_first_non_finite_element_is_found_wherever_it_is() {
        for dtype in [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64] {
            let mut values = vec![dtype.decode(&dtype.encode(&[6e4]).unwrap()).unwrap()[0]; 10_000];
            assert_eq!(dtype.first_non_finite(&dtype.encode(&values).unwrap()), None, "{dtype}");
            for (index, bad) in [(9_999, f32::NEG_INFINITY), (4_096, f32::INFINITY), (3, f32::NAN)] {
                values[index] = bad;
                let (found, value) = dtype.first_non_finite(&dtype.encode(&values).unwrap()).unwrap();
                assert_eq!((found, value.to_string()), (index, bad.to_string()), "{dtype}");
            }
        }
        assert_eq!(Dtype::I64.first_non_finite(&[0xff; 8]), None);
    }

    #[test]
    fn what_rounds_to_infinity_is_beyond_and_nothing_else() {
        let bf16_end = f32::from_bits(0x7f7f_8000);
        for (dtype, end) in [(Dtype::F16, 65_520.0), (Dtype::BF16, bf16_end)] {
            let below = f32::from_bits(end.to_bits() - 1);
            assert_eq!(dtype.first_beyond(&[0.0, dtype.largest(), -below, 1e-45]), None, "{dtype}");
            for beyond in [end, -end, f32::MAX, f32::INFINITY] {
                assert_eq!(dtype.first_beyond(&[below, beyond]), Some((1, beyond)), "{dtype}");
                let stored = dtype.decode(&dtype.encode(&[below, beyond]).unwrap()).unwrap();
                assert!(stored[0].is_finite() && stored[1].is_infinite(), "{dtype} {beyond}");
            }
            assert!(dtype.first_beyond(&[1.0, f32::NAN]).is_some_and(|(index, value)| index == 1 && value.is_nan()));
        }
        assert_eq!(Dtype::F32.first_beyond(&[f32::MAX, -f32::MAX]), None);
        assert_eq!(Dtype::F32.first_beyond(&[f32::MAX, f32::NEG_INFINITY]), Some((1, f32::NEG_INFINITY)));
    }

    #[test]
    fn f64_beyond_f32_counts_as_non_finite() {
        let bytes: Vec<u8> = [1.0f64, 1e300].into_iter().flat_map(f64::to_le_bytes).collect();
        assert_eq!(Dtype::F64.first_non_finite(&bytes), Some((1, 1e300)));
    }

    #[test]
    fn byte_counts_do_not_overflow() {
        assert_eq!(Dtype::BF16.bytes(&[3, 4]), Some(24));
        assert_eq!(Dtype::F32.bytes(&[]), Some(4));
        assert_eq!(Dtype::F32.bytes(&[usize::MAX, 2]), None);
        assert_eq!(Dtype::U8.bytes(&[1 << 40, 1 << 40]), None);
    }
}
