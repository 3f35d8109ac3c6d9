//! The inner loop of a matrix product: a tile of the output stays in registers while the depth passes by.

use super::{DEPTH, Matrix, Store, pack};
use crate::{cpu::dispatch, shared_rows::SharedRows};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows of the register tile where there are 32 vector registers, and where there are fewer.
const ROWS_WIDE: usize = 12;
const ROWS_NARROW: usize = 6;
/// Vectors side by side in the register tile.
const VECTORS: usize = 2;
/// The widest vector, in f32.
const MOST_LANES: usize = 16;

/// Rows of a packed panel of the left operand on this CPU.
pub(super) fn panel_rows() -> usize {
    struct Rows;
    impl WithSimd for Rows {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            if S::REGISTER_COUNT >= 32 { ROWS_WIDE } else { ROWS_NARROW }
        }
    }
    dispatch(Rows)
}

/// Columns of a packed panel of the right operand on this CPU.
pub(super) fn panel_columns() -> usize {
    struct Columns;
    impl WithSimd for Columns {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            VECTORS * S::F32_LANES
        }
    }
    dispatch(Columns)
}

/// How the left operand lies; its numbers are read one at a time, so full panels need no packing if a cache holds them.
#[derive(Clone, Copy)]
pub(super) enum Left<'a> {
    /// All panels packed, each over the whole depth.
    Packed(&'a [f32]),
    /// Rows with their depth contiguous, that start `stride` apart; the last, partial panel packed.
    Rows { values: &'a [f32], stride: usize, last: &'a [f32] },
    /// Depths with their rows contiguous, that start `stride` apart; the last, partial panel packed.
    Columns { values: &'a [f32], stride: usize, last: &'a [f32] },
}

/// The part of a product one task computes: panels of rows times columns that it packs itself.
pub(super) struct Tile<'a> {
    pub left: Left<'a>,
    pub right: Matrix<'a>,
    pub out: &'a SharedRows<'a>,
    pub panels: Range<usize>,
    pub columns: Range<usize>,
    pub store: Store,
    /// Whether the right operand is rounded to bf16.
    pub round: bool,
    /// Room for the columns packed to one [`DEPTH`].
    pub buffer: &'a mut [f32],
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            compute::<S, ROWS_WIDE>(simd, self);
        } else {
            compute::<S, ROWS_NARROW>(simd, self);
        }
    }
}

#[inline(always)]
fn compute<S: Simd, const ROWS: usize>(simd: S, tile: Tile) {
    let Tile { left, right, out, panels, columns, store, round, buffer } = tile;
    let depth = right.rows;
    let width = VECTORS * S::F32_LANES;
    if depth == 0 && store == Store::Replace {
        for row in panels.start * ROWS..(panels.end * ROWS).min(out.rows()) {
            // SAFETY: rows and columns of this task only.
            unsafe { out.segment(row, columns.clone()) }.fill(0.0);
        }
    }
    for start in (0..depth).step_by(DEPTH) {
        let depths = start..(start + DEPTH).min(depth);
        let packed = &mut buffer[..columns.len().next_multiple_of(width) * depths.len()];
        pack::pack(
            packed,
            width,
            right.elements,
            columns.clone(),
            depths.clone(),
            [right.column_stride, right.row_stride],
            round,
        );
        let add = start > 0 || store == Store::Add;
        for panel in panels.clone() {
            let rows = panel * ROWS..((panel + 1) * ROWS).min(out.rows());
            let whole = rows.len() == ROWS;
            let lies = match left {
                Left::Packed(all) => Lies::Columns(&all[panel * ROWS * depth + depths.start * ROWS..], ROWS),
                Left::Rows { values, stride, .. } if whole => {
                    Lies::Rows(&values[rows.start * stride + depths.start..], stride)
                }
                Left::Columns { values, stride, .. } if whole => {
                    Lies::Columns(&values[rows.start + depths.start * stride..], stride)
                }
                Left::Rows { last, .. } | Left::Columns { last, .. } => {
                    Lies::Columns(&last[depths.start * ROWS..], ROWS)
                }
            };
            for (block, first) in packed.chunks_exact(width * depths.len()).zip(columns.clone().step_by(width)) {
                let block_columns = first..(first + width).min(columns.end);
                let target = Target { out, rows: rows.clone(), columns: block_columns, add };
                // Each arm keeps its sums in registers to the end; passed through one variable they would go through memory.
                match lies {
                    // Few columns, as the factors of adapters have: one vector of the two.
                    Lies::Columns(left, stride) if target.columns.len() <= S::F32_LANES => {
                        multiply_columns::<S, ROWS, 1>(simd, left, stride, block, target)
                    }
                    Lies::Rows(left, stride) if target.columns.len() <= S::F32_LANES => {
                        multiply_rows::<S, ROWS, 1>(simd, left, stride, block, target)
                    }
                    Lies::Columns(left, stride) if stride == ROWS => {
                        multiply_columns::<S, ROWS, VECTORS>(simd, left, ROWS, block, target)
                    }
                    Lies::Columns(left, stride) => {
                        multiply_columns::<S, ROWS, VECTORS>(simd, left, stride, block, target)
                    }
                    Lies::Rows(left, stride) => multiply_rows::<S, ROWS, VECTORS>(simd, left, stride, block, target),
                }
            }
        }
    }
}

/// A full panel of the left operand: its numbers, and how far apart its depths or its rows start.
#[derive(Clone, Copy)]
enum Lies<'a> {
    Columns(&'a [f32], usize),
    Rows(&'a [f32], usize),
}

/// Where the sums of a register tile go.
struct Target<'a> {
    out: &'a SharedRows<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    add: bool,
}

/// The sums of the first `USED` vectors of a tile whose rows are contiguous at each depth, `stride` apart from depth to depth.
#[inline(always)]
fn multiply_columns<S: Simd, const ROWS: usize, const USED: usize>(
    simd: S,
    left: &[f32],
    stride: usize,
    right: &[f32],
    target: Target,
) {
    let (right, _) = pulp::as_arrays::<VECTORS, _>(S::as_simd_f32s(right).0);
    let mut sums = [[simd.splat_f32s(0.0); USED]; ROWS];
    assert!(right.is_empty() || left.len() >= (right.len() - 1) * stride + ROWS);
    for (depth, right) in right.iter().enumerate() {
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: at most (depths - 1) * stride + ROWS - 1, checked above.
            let factor = simd.splat_f32s(unsafe { *left.get_unchecked(depth * stride + row) });
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(factor, *right, *sum);
            }
        }
    }
    write::<S, ROWS, USED>(simd, &sums, target);
}

/// The sums of the first `USED` vectors of a tile whose rows are each contiguous over the depth and start `stride` apart.
#[inline(always)]
fn multiply_rows<S: Simd, const ROWS: usize, const USED: usize>(
    simd: S,
    left: &[f32],
    stride: usize,
    right: &[f32],
    target: Target,
) {
    let (right, _) = pulp::as_arrays::<VECTORS, _>(S::as_simd_f32s(right).0);
    let mut sums = [[simd.splat_f32s(0.0); USED]; ROWS];
    assert!(left.len() >= (ROWS - 1) * stride + right.len());
    for (depth, right) in right.iter().enumerate() {
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: at most (ROWS - 1) * stride + depths - 1, checked above.
            let factor = simd.splat_f32s(unsafe { *left.get_unchecked(row * stride + depth) });
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(factor, *right, *sum);
            }
        }
    }
    write::<S, ROWS, USED>(simd, &sums, target);
}

#[inline(always)]
fn write<S: Simd, const ROWS: usize, const USED: usize>(simd: S, sums: &[[S::f32s; USED]; ROWS], target: Target) {
    let Target { out, rows, columns, add } = target;
    let full = columns.len() == USED * S::F32_LANES;
    for (row, sums) in sums.iter().enumerate().take(rows.len()) {
        // SAFETY: rows and columns of this task only, one segment at a time.
        let segment = unsafe { out.segment(rows.start + row, columns.clone()) };
        if full {
            let (vectors, _) = S::as_mut_simd_f32s(segment);
            for (to, sum) in vectors.iter_mut().zip(sums) {
                *to = if add { simd.add_f32s(*to, *sum) } else { *sum };
            }
        } else {
            let mut buffer = [0.0; VECTORS * MOST_LANES];
            let (vectors, _) = S::as_mut_simd_f32s(&mut buffer);
            vectors[..USED].copy_from_slice(sums);
            for (to, sum) in segment.iter_mut().zip(buffer) {
                *to = if add { *to + sum } else { sum };
            }
        }
    }
}
