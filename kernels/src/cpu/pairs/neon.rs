//! Products of pairs with ARM's bf16 instructions: `BFDOT` adds the products of two pairs to an f32. Source: Arm Architecture
//! Reference Manual for A-profile, FEAT_BF16.

use super::{
    Held,
    layout::{Lies, Product, Tile},
};
use crate::cpu::BlockMut;
use std::arch::{
    aarch64::{
        float32x4_t, uint32x4_t, vaddq_f32, vdupq_n_f32, vdupq_n_u32, vld1q_dup_u32, vld1q_f32, vld1q_u32, vst1q_f32,
    },
    asm,
};

/// Rows and columns of the register tile: 24 of 32 registers.
pub(super) const ROWS: usize = 12;
pub(super) const COLUMNS: usize = VECTORS * LANES;
const VECTORS: usize = 2;
const LANES: usize = 4;

type Sums = [[float32x4_t; VECTORS]; ROWS];

pub(super) fn multiply(_: Held, product: Product, out: &mut BlockMut) {
    let each = |tile: Tile, out: &mut BlockMut| {
        let (left, row_step, pair_step) = match tile.left {
            Lies::Panel(words) => (words, 1, ROWS),
            Lies::Rows(words, stride) => (words, stride, 1),
        };
        assert!(left.len() > (ROWS - 1) * row_step + (tile.pairs - 1) * pair_step);
        assert!(tile.right.len() == tile.pairs * COLUMNS);
        // SAFETY: the instructions are there, by the first argument; the furthest word is that of the last row and pair, checked
        // above.
        let sums = unsafe { sum(left, row_step, pair_step, tile.right) };
        write(&sums, tile, out);
    };
    // SAFETY: `write` writes all rows and columns of a tile.
    unsafe { product.walk::<ROWS, COLUMNS>(out, each) };
}

/// # Safety
/// Word `row * row_step + pair * pair_step` of `left` is there for every row of the tile and every pair of `right`.
#[target_feature(enable = "neon,bf16")]
#[inline]
unsafe fn sum(left: &[u32], row_step: usize, pair_step: usize, right: &[u32]) -> Sums {
    let mut sums = [[vdupq_n_f32(0.0); VECTORS]; ROWS];
    for (pair, right) in right.as_chunks::<COLUMNS>().0.iter().enumerate() {
        // SAFETY: inside the array of `COLUMNS` words.
        let vectors: [uint32x4_t; VECTORS] =
            std::array::from_fn(|index| unsafe { vld1q_u32(right.as_ptr().add(index * LANES)) });
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the word is there by the caller's promise.
            let factor = unsafe { vld1q_dup_u32(left.get_unchecked(row * row_step + pair * pair_step)) };
            for (sum, right) in sums.iter_mut().zip(vectors) {
                *sum = dot(*sum, factor, right);
            }
        }
    }
    sums
}

/// Adds the products of the pairs of each lane to its sum.
#[target_feature(enable = "neon,bf16")]
#[inline]
fn dot(mut sum: float32x4_t, left: uint32x4_t, right: uint32x4_t) -> float32x4_t {
    // SAFETY: the instruction is there, and touches registers alone.
    unsafe {
        asm!(
            "bfdot {sum:v}.4s, {left:v}.8h, {right:v}.8h",
            sum = inout(vreg) sum,
            left = in(vreg) left,
            right = in(vreg) right,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

fn write(sums: &Sums, tile: Tile, out: &mut BlockMut) {
    let Tile { rows, columns, add, .. } = tile;
    for (row, sums) in rows.zip(sums) {
        let place = out.cells(row, &columns).as_mut_ptr().cast::<f32>();
        let mut buffer = [0.0; COLUMNS];
        let whole = columns.len() == COLUMNS;
        for (index, sum) in sums.iter().enumerate() {
            // SAFETY: inside the array, or inside the row where all columns are there; what is read was written before.
            unsafe {
                let to = if whole { place.add(index * LANES) } else { buffer.as_mut_ptr().add(index * LANES) };
                let sum = if whole && add { vaddq_f32(vld1q_f32(to), *sum) } else { *sum };
                vst1q_f32(to, sum);
            }
        }
        if !whole {
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

#[target_feature(enable = "neon,bf16")]
fn turn(turns: usize) {
    let factor = vdupq_n_u32(std::hint::black_box(0));
    let mut sums = [vdupq_n_f32(0.0); ROWS];
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = dot(*sum, factor, factor);
        }
    }
    std::hint::black_box(sums);
}
