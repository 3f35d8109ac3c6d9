//! Products of pairs with AVX512_BF16: `VDPBF16PS` adds the products of two pairs to an f32.

use super::{
    Held,
    layout::{Lies, Product, Tile},
};
use crate::cpu::BlockMut;
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
};
use std::{mem::transmute, ops::Range};

/// Rows and columns of the register tile: 24 of 32 registers.
pub(super) const ROWS: usize = 12;
pub(super) const COLUMNS: usize = VECTORS * LANES;
const VECTORS: usize = 2;
const LANES: usize = 16;

pub(super) fn multiply(_: Held, product: Product, out: &mut BlockMut) {
    let each = |tile: Tile, out: &mut BlockMut| {
        let (left, row_step, pair_step) = match tile.left {
            Lies::Panel(words) => (words, 1, ROWS),
            Lies::Rows(words, stride) => (words, stride, 1),
        };
        assert!(left.len() > (ROWS - 1) * row_step + (tile.pairs - 1) * pair_step);
        assert!(tile.right.len() == tile.pairs * COLUMNS);
        let target = Target { rows: tile.rows, columns: tile.columns, add: tile.add };
        // SAFETY: the instructions are there, by the first argument; the furthest word is that of the last row and pair, checked
        // above.
        unsafe {
            // Few columns, as the factors of adapters have: one vector of the two.
            match target.columns.len() <= LANES {
                true => sum::<1>(left, row_step, pair_step, tile.right, out, target),
                false => sum::<VECTORS>(left, row_step, pair_step, tile.right, out, target),
            }
        }
    };
    // SAFETY: both arms write the whole target.
    unsafe { product.walk::<ROWS, COLUMNS>(out, each) };
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
unsafe fn sum<const USED: usize>(
    left: &[u32],
    row_step: usize,
    pair_step: usize,
    right: &[u32],
    out: &mut BlockMut,
    target: Target,
) {
    let mut sums = [[_mm512_setzero_ps(); USED]; ROWS];
    let (right, _) = right.as_chunks::<COLUMNS>();
    for (pair, right) in right.iter().enumerate() {
        // SAFETY: numbers of 16 bits have no invalid values.
        let mut vectors = [unsafe { transmute::<__m512i, __m512bh>(_mm512_setzero_si512()) }; USED];
        for (index, vector) in vectors.iter_mut().enumerate() {
            // SAFETY: inside the array of `COLUMNS` words; numbers of 16 bits have no invalid values.
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
fn write<const USED: usize>(sums: &[[__m512; USED]; ROWS], out: &mut BlockMut, Target { rows, columns, add }: Target) {
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
            let mut buffer = [0.0; COLUMNS];
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
pub(super) fn most(_: Held, turns: usize) -> f64 {
    // SAFETY: the instructions are there, by the first argument.
    unsafe { turn(turns) };
    (turns * ROWS * 2 * LANES) as f64
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn turn(turns: usize) {
    // SAFETY: numbers of 16 bits have no invalid values.
    let factor = unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(std::hint::black_box(0))) };
    let mut sums = [_mm512_setzero_ps(); ROWS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, factor, factor);
        }
    }
    std::hint::black_box(sums);
}
