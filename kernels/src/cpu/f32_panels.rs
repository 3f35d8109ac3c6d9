//! Products of f32 panels: a tile of the output stays in registers while the depth passes by.

use super::{BlockMut, dispatch};
use pulp::{Simd, WithSimd};
use std::ops::Range;

/// Rows of the register tile where there are 32 vector registers, and where there are fewer.
const ROWS_WIDE: usize = 12;
const ROWS_NARROW: usize = 6;
/// Vectors side by side in the register tile.
const VECTORS: usize = 2;
/// The widest vector, in f32.
const MOST_LANES: usize = 16;

/// Rows of a panel of the left operand on this CPU.
pub(crate) fn panel_rows() -> usize {
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

/// Columns of a panel of the right operand on this CPU.
pub(crate) fn panel_columns() -> usize {
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
pub(crate) enum Left<'a> {
    /// Panels, that start so many numbers apart.
    Panels(&'a [f32], usize),
    /// Rows with their depth contiguous, that start `stride` apart; the last, partial panel packed.
    Rows { values: &'a [f32], stride: usize, last: &'a [f32] },
    /// Depths with their rows contiguous, that start `stride` apart; the last, partial panel packed.
    Columns { values: &'a [f32], stride: usize, last: &'a [f32] },
}

/// Panels of the right operand, `len` numbers each, of which those from `start` on are the first depth that is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a, T> {
    pub panels: &'a [T],
    pub len: usize,
    pub start: usize,
}

impl<'a, T> Right<'a, T> {
    /// What `depths` of every panel are, each `width` numbers.
    #[inline(always)]
    pub fn blocks(self, depths: usize, width: usize) -> impl Iterator<Item = &'a [T]> {
        self.panels.chunks_exact(self.len.max(1)).map(move |panel| &panel[self.start * width..][..depths * width])
    }
}

/// `out = left * right` or `out += left * right` over some depths of the panels. The first row of `out` is that of panel `first`.
pub(crate) fn multiply_panels(
    left: Left,
    first: usize,
    depths: Range<usize>,
    right: Right<f32>,
    out: &mut BlockMut,
    add: bool,
) {
    assert!(!depths.is_empty() && (!add || out.is_written()));
    dispatch(Walk { left, first, depths, right, out, add });
}

struct Walk<'a, 'b, 'c> {
    left: Left<'a>,
    first: usize,
    depths: Range<usize>,
    right: Right<'a, f32>,
    out: &'b mut BlockMut<'c>,
    add: bool,
}

impl WithSimd for Walk<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            walk::<S, ROWS_WIDE>(simd, self);
        } else {
            walk::<S, ROWS_NARROW>(simd, self);
        }
    }
}

#[inline(always)]
fn walk<S: Simd, const ROWS: usize>(simd: S, walk: Walk) {
    let Walk { left, first, depths, right, out, add } = walk;
    let width = VECTORS * S::F32_LANES;
    let (rows, columns) = (out.rows(), out.columns());
    assert!(right.panels.len() >= columns.div_ceil(width) * right.len);
    for panel in 0..rows.div_ceil(ROWS) {
        let of_out = panel * ROWS..((panel + 1) * ROWS).min(rows);
        let at = first + panel;
        let whole = of_out.len() == ROWS;
        let lies = match left {
            Left::Panels(all, len) => Lies::Columns(&all[at * len + depths.start * ROWS..], ROWS),
            Left::Rows { values, stride, .. } if whole => {
                Lies::Rows(&values[at * ROWS * stride + depths.start..], stride)
            }
            Left::Columns { values, stride, .. } if whole => {
                Lies::Columns(&values[at * ROWS + depths.start * stride..], stride)
            }
            Left::Rows { last, .. } | Left::Columns { last, .. } => Lies::Columns(&last[depths.start * ROWS..], ROWS),
        };
        for (block, first) in right.blocks(depths.len(), width).zip((0..columns).step_by(width)) {
            let target = Target { rows: of_out.clone(), columns: first..(first + width).min(columns), add };
            // Each arm keeps its sums in registers to the end; passed through one variable they would go through memory.
            match lies {
                // Few columns, as the factors of adapters have: one vector of the two.
                Lies::Columns(left, stride) if target.columns.len() <= S::F32_LANES => {
                    multiply_columns::<S, ROWS, 1>(simd, left, stride, block, out, target)
                }
                Lies::Rows(left, stride) if target.columns.len() <= S::F32_LANES => {
                    multiply_rows::<S, ROWS, 1>(simd, left, stride, block, out, target)
                }
                Lies::Columns(left, stride) if stride == ROWS => {
                    multiply_columns::<S, ROWS, VECTORS>(simd, left, ROWS, block, out, target)
                }
                Lies::Columns(left, stride) => {
                    multiply_columns::<S, ROWS, VECTORS>(simd, left, stride, block, out, target)
                }
                Lies::Rows(left, stride) => multiply_rows::<S, ROWS, VECTORS>(simd, left, stride, block, out, target),
            }
        }
    }
    // SAFETY: every row of every panel was, over all columns, whose panels are there by the check above.
    unsafe { out.assume_written() };
}

/// A full panel of the left operand: its numbers, and how far apart its depths or its rows start.
#[derive(Clone, Copy)]
enum Lies<'a> {
    Columns(&'a [f32], usize),
    Rows(&'a [f32], usize),
}

/// Where in a block the sums of a register tile go.
struct Target {
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
    out: &mut BlockMut,
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
    // A copy: the sums themselves are never looked at by a number that is not constant, so they stay in registers.
    let done = sums;
    write::<S, ROWS, USED>(simd, &done, out, target);
}

/// The sums of the first `USED` vectors of a tile whose rows are each contiguous over the depth and start `stride` apart.
#[inline(always)]
fn multiply_rows<S: Simd, const ROWS: usize, const USED: usize>(
    simd: S,
    left: &[f32],
    stride: usize,
    right: &[f32],
    out: &mut BlockMut,
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
    // A copy: the sums themselves are never looked at by a number that is not constant, so they stay in registers.
    let done = sums;
    write::<S, ROWS, USED>(simd, &done, out, target);
}

#[inline(always)]
fn write<S: Simd, const ROWS: usize, const USED: usize>(
    simd: S,
    sums: &[[S::f32s; USED]; ROWS],
    out: &mut BlockMut,
    Target { rows, columns, add }: Target,
) {
    let full = columns.len() == USED * S::F32_LANES;
    for (row, sums) in sums.iter().enumerate().take(rows.len()) {
        let cells = out.cells(rows.start + row, &columns);
        // SAFETY: numbers that are only written, or that `add` says were written before.
        let segment = unsafe { &mut *(std::ptr::from_mut(cells) as *mut [f32]) };
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
