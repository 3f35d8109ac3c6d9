//! Products with few rows (a token at a time in generation): each weight is read once, where it lies.

use super::{Elements, Matrix, RIGHT, pack::Widen};
use crate::{cpu::vectorised, quantized::QuantizedWeight, scratch::with_buffer, shared_rows::SharedRows};
use rayon::prelude::*;

/// Columns of one task.
const COLUMNS: usize = 64;
/// Partial sums of one dot product: two vectors of the widest kind.
const SUMS: usize = 32;

/// `out = left * right` where a column of `right` is contiguous. `out` has no gaps.
pub(super) fn multiply_few_rows(out: &mut [f32], left: Matrix, right: Matrix, parallel: bool) {
    let Elements::F32(rows) = left.elements else {
        panic!("the left operand of a product is in f32");
    };
    match right.elements {
        Elements::F32(all) => multiply_as(out, rows, left, all, right, parallel),
        Elements::F16(all) => multiply_as(out, rows, left, all, right, parallel),
        Elements::Bf16(all) => multiply_as(out, rows, left, all, right, parallel),
        Elements::Quantized(weight, start) => multiply_quantized(out, rows, left, (weight, start), right, parallel),
    }
}

/// As [`multiply_as`], with each column widened once for all rows.
fn multiply_quantized(
    out: &mut [f32],
    rows: &[f32],
    left: Matrix,
    (weight, start): (&QuantizedWeight, usize),
    right: Matrix,
    parallel: bool,
) {
    let depth = left.columns;
    let out = SharedRows::new(out, right.columns, left.rows, right.columns);
    let task = |block: usize| {
        let columns = block * COLUMNS..((block + 1) * COLUMNS).min(right.columns);
        with_buffer(&RIGHT, depth, |numbers| {
            vectorised(
                #[inline(always)]
                || {
                    for column in columns {
                        weight.widen(start + column * right.column_stride, numbers);
                        for index in 0..left.rows {
                            let row = &rows[index * left.row_stride..][..depth];
                            // SAFETY: one number at a time, of a column that is this task's.
                            let to = unsafe { out.segment(index, column..column + 1) };
                            to[0] = dot(row, numbers);
                        }
                    }
                },
            );
        });
    };
    let blocks = 0..right.columns.div_ceil(COLUMNS);
    match parallel {
        true => blocks.into_par_iter().for_each(task),
        false => blocks.for_each(task),
    }
}

fn multiply_as<T: Widen>(out: &mut [f32], rows: &[f32], left: Matrix, all: &[T], right: Matrix, parallel: bool) {
    if right.columns == 0 {
        return;
    }
    let depth = left.columns;
    for (index, out) in out.chunks_exact_mut(right.columns).take(left.rows).enumerate() {
        let row = &rows[index * left.row_stride..][..depth];
        let task = |(block, out): (usize, &mut [f32])| {
            vectorised(
                #[inline(always)]
                || {
                    for (column, out) in out.iter_mut().enumerate() {
                        let start = (block * COLUMNS + column) * right.column_stride;
                        *out = dot(row, &all[start..start + depth]);
                    }
                },
            );
        };
        match parallel {
            true => out.par_chunks_mut(COLUMNS).enumerate().for_each(task),
            false => out.chunks_mut(COLUMNS).enumerate().for_each(task),
        }
    }
}

#[inline(always)]
fn dot<T: Widen>(x: &[f32], y: &[T]) -> f32 {
    let mut sums = [0.0f32; SUMS];
    let (x_chunks, y_chunks) = (x.chunks_exact(SUMS), y.chunks_exact(SUMS));
    let (x_rest, y_rest) = (x_chunks.remainder(), y_chunks.remainder());
    for (x, y) in x_chunks.zip(y_chunks) {
        for lane in 0..SUMS {
            sums[lane] += x[lane] * y[lane].widen();
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y.widen()).sum();
    sums.iter().sum::<f32>() + rest
}
