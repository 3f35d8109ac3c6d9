//! Products of bf16 numbers where the CPU has instructions for them: [`PairInstructions`].
//!
//! A word holds the numbers of two neighbouring depths, the first in the low half; an instruction adds the products of both halves
//! of two words to an f32. A tile of the output stays in registers while the depth passes by.
//!
//! ```text
//! layout.rs       how packed operands lie, and the walk over the tiles of a block
//! avx512.rs       AVX512_BF16: products
//! avx512_pack.rs  AVX512_BF16: rounding, and turning rows of words into columns
//! amx.rs          AMX-BF16: products of tiles
//! emulated.rs     the same without the instructions, for tests
//! neon.rs         ARM's bf16: products
//! plain.rs        rounding and turning without instructions for them
//! ```

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_pack;
#[cfg(all(test, target_arch = "x86_64"))]
mod emulated;
mod layout;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(not(target_arch = "x86_64"))]
mod plain;

#[cfg(target_arch = "x86_64")]
pub(super) use amx::has_tiles;
#[cfg(all(test, target_arch = "x86_64"))]
pub(super) use amx::testing::EMULATED;
pub(crate) use layout::PairLeft;

use super::{BlockMut, InstructionSet, Right, current};
#[cfg(target_arch = "x86_64")]
use avx512_pack as pack;
#[cfg(not(target_arch = "x86_64"))]
use plain as pack;
use std::ops::Range;

/// Most columns of a panel with any instructions.
pub(crate) const MOST_PAIR_COLUMNS: usize = 32;

/// Instructions that the chosen set has. Architectures without any have no value of this type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PairInstructions {
    /// `VDPBF16PS`.
    #[cfg(target_arch = "x86_64")]
    Avx512(Held),
    /// `TDPBF16PS`, and those of AVX-512 for all but the products.
    #[cfg(target_arch = "x86_64")]
    Amx(Held),
    /// `BFDOT`.
    #[cfg(target_arch = "aarch64")]
    Neon(Held),
}

/// Made where the chosen set has the instructions, and nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held(());

impl PairInstructions {
    /// `None` where the set has none.
    pub fn chosen() -> Option<Self> {
        match current().0 {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 => Some(Self::Avx512(Held(()))),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::AmxBf16 => Some(Self::Amx(Held(()))),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::NeonBf16 => Some(Self::Neon(Held(()))),
            _ => None,
        }
    }

    /// Rows of a panel of the left operand.
    pub fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => avx512::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => amx::ROWS,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => neon::ROWS,
        }
    }

    /// Columns of a panel of the right operand.
    pub fn columns(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => avx512::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => amx::COLUMNS,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => neon::COLUMNS,
        }
    }

    /// Pairs that an instruction takes at once: packed operands have so many, or several times as many, with zeros at the end.
    pub fn unit(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => 1,
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => amx::PAIRS,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => 1,
        }
    }

    /// Words that so much depth is packed to.
    pub fn words(self, depth: usize) -> usize {
        depth.div_ceil(2).next_multiple_of(self.unit())
    }
}

/// Neighbours become words; an odd last one has a zero beside it. `words` has room for half as many, rounded up.
pub(crate) fn pair_neighbours(instructions: PairInstructions, words: &mut [u32], numbers: &[f32]) {
    assert_eq!(words.len(), numbers.len().div_ceil(2));
    pack::neighbours(instructions, words, numbers);
}

/// The numbers of two rows at the same place become a word, those of the first row in the low half; without a second
/// row, zeros in the high one.
pub(crate) fn pair_rows(instructions: PairInstructions, words: &mut [u32], low: &[f32], high: Option<&[f32]>) {
    assert!(low.len() == words.len() && high.is_none_or(|high| high.len() == words.len()));
    pack::rows(instructions, words, low, high);
}

/// Rows of words, `stride` apart in `from`, become columns of `to`, in which rows are `width` apart.
pub(crate) fn turn_words(
    instructions: PairInstructions,
    to: &mut [u32],
    width: usize,
    from: &[u32],
    stride: usize,
    [count, length]: [usize; 2],
) {
    if count == 0 || length == 0 {
        return;
    }
    assert!(count <= width && to.len() >= (length - 1) * width + count);
    assert!(from.len() >= (count - 1) * stride + length);
    pack::turn(instructions, to, width, from, stride, [count, length]);
}

/// Brings the words of panels of a left operand, row beside row for each pair, in the order in which products read them.
pub(crate) fn finish_left(instructions: PairInstructions, panels: &mut [u32]) {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        PairInstructions::Avx512(_) => {}
        #[cfg(target_arch = "x86_64")]
        PairInstructions::Amx(_) => amx::finish_left(instructions, panels),
        #[cfg(target_arch = "aarch64")]
        PairInstructions::Neon(_) => {}
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = panels;
}

/// `out = left * right` or `out += left * right` over some pairs of depths of the panels. The first row of `out` is that of panel
/// `first`.
pub(crate) fn multiply_pairs(
    instructions: PairInstructions,
    left: PairLeft,
    first: usize,
    pairs: Range<usize>,
    right: Right<u32>,
    out: &mut BlockMut,
    add: bool,
) {
    let product = layout::Product { left, first, pairs, right, add };
    match instructions {
        #[cfg(target_arch = "x86_64")]
        PairInstructions::Avx512(held) => avx512::multiply(held, product, out),
        #[cfg(target_arch = "x86_64")]
        PairInstructions::Amx(held) => amx::multiply(held, product, out),
        #[cfg(target_arch = "aarch64")]
        PairInstructions::Neon(held) => neon::multiply(held, product, out),
    }
}

/// Multiplies numbers in registers so many times, and says how many multiplications that were.
pub(super) fn most_pairs(instructions: PairInstructions, turns: usize) -> f64 {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        PairInstructions::Avx512(held) => avx512::most(held, turns),
        #[cfg(target_arch = "x86_64")]
        PairInstructions::Amx(held) => amx::most(held, turns),
        #[cfg(target_arch = "aarch64")]
        PairInstructions::Neon(held) => neon::most(held, turns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cpu::testing::with_each_instruction_set, precision::nearest_bf16, testing::numbers};

    /// Runs `test` where the instructions are there.
    fn with_pairs(test: impl Fn(PairInstructions) + Sync) {
        with_each_instruction_set(|| {
            if let Some(instructions) = PairInstructions::chosen() {
                test(instructions);
            }
        });
    }

    fn word(low: f32, high: f32) -> u32 {
        u32::from(nearest_bf16(low)) | u32::from(nearest_bf16(high)) << 16
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_in_pairs() {
        with_pairs(|instructions| {
            for count in [0, 1, 2, 15, 16, 17, 31, 32, 33, 100] {
                let (all, others) = (numbers(count, 1), numbers(count, 2));
                let mut words = vec![7; count.div_ceil(2)];
                pair_neighbours(instructions, &mut words, &all);
                let expected: Vec<u32> =
                    all.chunks(2).map(|two| word(two[0], two.get(1).copied().unwrap_or(0.0))).collect();
                assert_eq!(words, expected);
                let mut words = vec![7; count];
                pair_rows(instructions, &mut words, &all, Some(&others));
                assert_eq!(words, all.iter().zip(&others).map(|(low, high)| word(*low, *high)).collect::<Vec<_>>());
                pair_rows(instructions, &mut words, &all, None);
                assert_eq!(words, all.iter().map(|low| word(*low, 0.0)).collect::<Vec<_>>());
            }
        });
    }

    #[test]
    fn words_are_turned_and_nothing_else_is_written() {
        with_pairs(|instructions| {
            for (count, length, width, stride) in [
                (1, 1, 1, 1),
                (12, 288, 12, 288),
                (32, 256, 32, 300),
                (5, 7, 12, 7),
                (16, 16, 20, 16),
                (17, 33, 32, 40),
            ] {
                let from: Vec<u32> = (0..(count * stride) as u32).collect();
                let mut to = vec![u32::MAX; length * width];
                turn_words(instructions, &mut to, width, &from, stride, [count, length]);
                for (at, word) in to.iter().enumerate() {
                    let (column, row) = (at / width, at % width);
                    let expected = if row < count { (row * stride + column) as u32 } else { u32::MAX };
                    assert_eq!(*word, expected, "{count} {length} {width} {stride}");
                }
            }
        });
    }
}
