//! The inner loop of a product of bf16 numbers where the CPU has an instruction for it: `VDPBF16PS` adds the products of two pairs to
//! an f32. A word holds the numbers of two neighbouring depths, the first in the low half. A tile of the output stays in registers
//! while the depth passes by.

use super::{BlockMut, InstructionSet, Right, current};
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
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

/// How the left operand lies, in words.
#[derive(Clone, Copy)]
pub(crate) enum PairLeft<'a> {
    /// Panels of [`PAIR_ROWS`] rows, that start so many words apart: the rows of a pair follow each other, and pairs follow each other.
    Panels(&'a [u32], usize),
    /// The pairs of a row follow each other; rows start so many words apart, and there are as many as whole panels have.
    Rows(&'a [u32], usize),
}

/// `out = left * right` or `out += left * right` over some pairs of depths of the panels, those of the right operand
/// [`PAIR_COLUMNS`] wide. The first row of `out` is that of panel `first`.
pub(crate) fn multiply_pairs(
    _: PairInstructions,
    left: PairLeft,
    first: usize,
    pairs: Range<usize>,
    right: Right<u32>,
    out: &mut BlockMut,
    add: bool,
) {
    let (rows, columns, count) = (out.rows(), out.columns(), pairs.len());
    assert!(!pairs.is_empty() && (!add || out.is_written()));
    assert!(right.panels.len() >= columns.div_ceil(PAIR_COLUMNS) * right.len);
    for panel in 0..rows.div_ceil(PAIR_ROWS) {
        let of_out = panel * PAIR_ROWS..((panel + 1) * PAIR_ROWS).min(rows);
        let at = first + panel;
        let (words, row_step, pair_step) = match left {
            PairLeft::Panels(words, len) => (&words[at * len + pairs.start * PAIR_ROWS..], 1, PAIR_ROWS),
            PairLeft::Rows(words, stride) => (&words[at * PAIR_ROWS * stride + pairs.start..], stride, 1),
        };
        assert!(words.len() > (PAIR_ROWS - 1) * row_step + (count - 1) * pair_step);
        for (block, first) in right.blocks(count, PAIR_COLUMNS).zip((0..columns).step_by(PAIR_COLUMNS)) {
            let target = Target { rows: of_out.clone(), columns: first..(first + PAIR_COLUMNS).min(columns), add };
            // SAFETY: the instructions are there, by the first argument; the furthest word is that of the last row and pair, checked
            // above, and `block` has `count` pairs.
            unsafe {
                // Few columns, as the factors of adapters have: one vector of the two.
                match target.columns.len() <= LANES {
                    true => tile::<1>(words, row_step, pair_step, block, out, target),
                    false => tile::<VECTORS>(words, row_step, pair_step, block, out, target),
                }
            }
        }
    }
    // SAFETY: every row of every panel was, over all columns, whose panels are there by the check above.
    unsafe { out.assume_written() };
}

/// Where in a block the sums of a register tile go.
struct Target {
    rows: Range<usize>,
    columns: Range<usize>,
    add: bool,
}

/// The first `USED` vectors of a tile.
///
/// # Safety
/// Word `row * row_step + pair * pair_step` of `left` is there for every row of the tile and every pair of `right`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
unsafe fn tile<const USED: usize>(
    left: &[u32],
    row_step: usize,
    pair_step: usize,
    right: &[u32],
    out: &mut BlockMut,
    target: Target,
) {
    let mut sums = [[_mm512_setzero_ps(); USED]; PAIR_ROWS];
    let (right, _) = right.as_chunks::<PAIR_COLUMNS>();
    for (pair, right) in right.iter().enumerate() {
        // SAFETY: numbers of 16 bits have no invalid values.
        let mut vectors = [unsafe { transmute::<__m512i, __m512bh>(_mm512_setzero_si512()) }; USED];
        for (index, vector) in vectors.iter_mut().enumerate() {
            // SAFETY: inside the array of `PAIR_COLUMNS` words; numbers of 16 bits have no invalid values.
            *vector =
                unsafe { transmute::<__m512i, __m512bh>(_mm512_loadu_si512(right.as_ptr().add(index * LANES).cast())) };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the word is there by the caller's promise.
            let word = unsafe { *left.get_unchecked(row * row_step + pair * pair_step) };
            // SAFETY: as above, numbers of 16 bits have no invalid values.
            let factor = unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(word as i32)) };
            for (sum, right) in sums.iter_mut().zip(&vectors) {
                *sum = _mm512_dpbf16_ps(*sum, factor, *right);
            }
        }
    }
    write(&sums, out, target);
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn write<const USED: usize>(
    sums: &[[__m512; USED]; PAIR_ROWS],
    out: &mut BlockMut,
    Target { rows, columns, add }: Target,
) {
    for (row, sums) in rows.zip(sums) {
        let place = out.cells(row, &columns).as_mut_ptr().cast::<f32>();
        if columns.len() == USED * LANES {
            for (index, sum) in sums.iter().enumerate() {
                // SAFETY: as many vectors as columns; what is read was written before.
                unsafe {
                    let to = place.add(index * LANES);
                    let sum = if add { _mm512_add_ps(_mm512_loadu_ps(to), *sum) } else { *sum };
                    _mm512_storeu_ps(to, sum);
                }
            }
        } else {
            let mut buffer = [0.0; PAIR_COLUMNS];
            for (to, sum) in buffer.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
                // SAFETY: the array has the lanes of one register.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *sum) };
            }
            for (index, sum) in buffer[..columns.len()].iter().enumerate() {
                // SAFETY: one of the columns; what is read was written before.
                unsafe {
                    let to = place.add(index);
                    to.write(if add { to.read() + sum } else { *sum });
                }
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
