//! The inner loop of a product of bf16 numbers where the CPU has an instruction for it: `VDPBF16PS` adds the products of two pairs to
//! an f32. A word holds the numbers of two neighbouring depths, the first in the low half. A tile of the output stays in registers
//! while the depth passes by.

use super::{InstructionSet, current};
use crate::shared_rows::SharedRows;
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::{mem::transmute, ops::Range};

/// Rows and columns of the register tile: 24 of 32 registers.
pub(crate) const PAIR_ROWS: usize = 12;
pub(crate) const PAIR_COLUMNS: usize = VECTORS * LANES;
const VECTORS: usize = 2;
const LANES: usize = 16;

/// Says that the chosen instruction set has the instruction.
#[derive(Clone, Copy)]
pub(crate) struct PairInstructions(());

impl PairInstructions {
    /// `None` where the set has it not.
    pub fn chosen() -> Option<Self> {
        (current().0 == InstructionSet::Avx512Bf16).then_some(Self(()))
    }
}

/// A panel of [`PAIR_ROWS`] rows of the left operand, over some pairs of depths.
#[derive(Clone, Copy)]
pub(crate) enum PairPanel<'a> {
    /// The rows of a pair follow each other, and pairs follow each other.
    Pairs(&'a [u32]),
    /// The pairs of a row follow each other; rows start so many words apart.
    Rows(&'a [u32], usize),
}

/// Where the sums of a register tile go.
pub(crate) struct PairTarget<'a> {
    pub out: &'a SharedRows<'a>,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    pub add: bool,
}

/// The sums of a tile. `right` holds [`PAIR_COLUMNS`] words for each pair of depths.
pub(crate) fn multiply_pairs(_: PairInstructions, left: PairPanel, right: &[u32], target: PairTarget) {
    let pairs = right.len() / PAIR_COLUMNS;
    match left {
        PairPanel::Pairs(left) => {
            assert!(left.len() >= pairs * PAIR_ROWS);
            // SAFETY: the instructions are there, by the first argument; the furthest word read of a pair is its
            // `PAIR_ROWS`-th, checked above.
            unsafe { tile(left, 1, PAIR_ROWS, right, target) }
        }
        PairPanel::Rows(left, stride) => {
            assert!(pairs == 0 || left.len() >= (PAIR_ROWS - 1) * stride + pairs);
            // SAFETY: as above; the furthest word is the last pair of the last row, checked above.
            unsafe { tile(left, stride, 1, right, target) }
        }
    }
}

/// # Safety
/// Word `row * row_step + pair * pair_step` of `left` is there for every row of the tile and every pair of `right`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
unsafe fn tile(left: &[u32], row_step: usize, pair_step: usize, right: &[u32], target: PairTarget) {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; PAIR_ROWS];
    let (right, _) = right.as_chunks::<PAIR_COLUMNS>();
    for (pair, right) in right.iter().enumerate() {
        // SAFETY: both loads are inside the array of `PAIR_COLUMNS` words; numbers of 16 bits have no invalid values.
        let right: [__m512bh; VECTORS] = unsafe {
            [
                transmute::<__m512i, __m512bh>(_mm512_loadu_si512(right.as_ptr().cast())),
                transmute::<__m512i, __m512bh>(_mm512_loadu_si512(right.as_ptr().add(LANES).cast())),
            ]
        };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the word is there by the caller's promise.
            let word = unsafe { *left.get_unchecked(row * row_step + pair * pair_step) };
            // SAFETY: as above, numbers of 16 bits have no invalid values.
            let factor = unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(word as i32)) };
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = _mm512_dpbf16_ps(*sum, factor, right);
            }
        }
    }
    write(&sums, target);
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn write(sums: &[[__m512; VECTORS]; PAIR_ROWS], target: PairTarget) {
    let PairTarget { out, rows, columns, add } = target;
    for (row, sums) in rows.zip(sums) {
        // SAFETY: rows and columns of this task only, one segment at a time.
        let segment = unsafe { out.segment(row, columns.clone()) };
        if let Some(to) = segment.as_mut_array::<PAIR_COLUMNS>() {
            for (to, sum) in to.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
                // SAFETY: the array has the lanes of one register.
                unsafe {
                    let sum = if add { _mm512_add_ps(_mm512_loadu_ps(to.as_ptr()), *sum) } else { *sum };
                    _mm512_storeu_ps(to.as_mut_ptr(), sum);
                }
            }
        } else {
            let mut buffer = [0.0; PAIR_COLUMNS];
            for (to, sum) in buffer.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
                // SAFETY: the array has the lanes of one register.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *sum) };
            }
            for (to, sum) in segment.iter_mut().zip(buffer) {
                *to = if add { *to + sum } else { sum };
            }
        }
    }
}

/// Multiplies numbers in registers so many times, and says how many multiplications that were.
pub(crate) fn most_pairs(_: PairInstructions, turns: usize) -> f64 {
    // SAFETY: the instructions are there, by the first argument.
    unsafe { most(turns) };
    (turns * PAIR_ROWS * 2 * LANES) as f64
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn most(turns: usize) {
    // SAFETY: numbers of 16 bits have no invalid values.
    let factor = unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(std::hint::black_box(0))) };
    let mut sums = [_mm512_setzero_ps(); PAIR_ROWS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, factor, factor);
        }
    }
    std::hint::black_box(sums);
}
