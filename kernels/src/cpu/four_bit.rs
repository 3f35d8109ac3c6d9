//! Numbers of 4-bit codes, with an instruction that looks up sixteen at once.

use super::{InstructionSet, current};
use std::arch::x86_64::{
    __m128i, __m512, __m512i, _mm_loadu_si128, _mm512_and_si512, _mm512_cvtepu8_epi32, _mm512_loadu_ps, _mm512_mul_ps,
    _mm512_permutex2var_ps, _mm512_permutexvar_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32,
    _mm512_srli_epi32, _mm512_storeu_ps,
};

/// Bytes of codes that are looked up at once: two a byte.
pub(crate) const CODES: usize = 16;

/// Says that the chosen instruction set has the instruction.
#[derive(Clone, Copy)]
pub(crate) struct LookupInstructions(());

impl LookupInstructions {
    /// `None` where the set has it not.
    #[inline(always)]
    pub fn chosen() -> Option<Self> {
        match current().0 {
            InstructionSet::Avx512 | InstructionSet::Avx512Bf16 | InstructionSet::AmxBf16 => Some(Self(())),
            InstructionSet::Portable | InstructionSet::Neon | InstructionSet::NeonBf16 | InstructionSet::Avx2 => None,
        }
    }
}

/// `scale` times what the codes of each byte stand for, that of the high half first.
#[inline(always)]
pub(crate) fn look_up(
    _: LookupInstructions,
    values: &[f32; 16],
    scale: f32,
    codes: &[[u8; CODES]],
    out: &mut [[f32; 2 * CODES]],
) {
    // SAFETY: the instructions are there, by the first argument.
    unsafe { look_up_all(values, scale, codes, out) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn look_up_all(values: &[f32; 16], scale: f32, codes: &[[u8; CODES]], out: &mut [[f32; 2 * CODES]]) {
    // SAFETY: the table has the lanes of a register.
    let values = unsafe { _mm512_loadu_ps(values.as_ptr()) };
    let (scale, half) = (_mm512_set1_ps(scale), _mm512_set1_epi32(15));
    // Lanes of the high halves, and from 16 on those of the low ones.
    let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    for (codes, out) in codes.iter().zip(out) {
        // SAFETY: as many bytes as the register has.
        let bytes: __m128i = unsafe { _mm_loadu_si128(codes.as_ptr().cast()) };
        let bytes = _mm512_cvtepu8_epi32(bytes);
        let number = |codes: __m512i| -> __m512 { _mm512_mul_ps(_mm512_permutexvar_ps(codes, values), scale) };
        let (high, low) = (number(_mm512_srli_epi32::<4>(bytes)), number(_mm512_and_si512(bytes, half)));
        // SAFETY: the array has the lanes of two registers.
        unsafe {
            _mm512_storeu_ps(out.as_mut_ptr(), _mm512_permutex2var_ps(high, first, low));
            _mm512_storeu_ps(out.as_mut_ptr().add(CODES), _mm512_permutex2var_ps(high, second, low));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::with_each_instruction_set;

    #[test]
    fn every_byte_stands_for_two_numbers() {
        with_each_instruction_set(|| {
            let Some(instructions) = LookupInstructions::chosen() else { return };
            let values: [f32; 16] = std::array::from_fn(|code| (code as f32 + 0.3) / 7.0);
            let codes: [[u8; CODES]; 16] =
                std::array::from_fn(|row| std::array::from_fn(|byte| (row * 16 + byte) as u8));
            let mut out = [[f32::NAN; 2 * CODES]; 16];
            look_up(instructions, &values, 1.7, &codes, &mut out);
            for (byte, pair) in out.as_flattened().chunks(2).enumerate() {
                assert_eq!(pair, [values[byte >> 4] * 1.7, values[byte & 15] * 1.7]);
            }
        });
    }
}
