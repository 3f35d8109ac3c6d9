//! Products with few rows (a token at a time in generation): each weight is read once, where it lies.

use super::{Elements, Matrix, pack::Widen, panels::RIGHT};
use crate::{
    cpu::{BlockMut, vectorised},
    quantized::QuantizedWeight,
    scratch::with_buffer,
};
use rayon::prelude::*;

/// Columns of one task.
const COLUMNS: usize = 64;
/// Partial sums of one dot product: two vectors of the widest kind.
const SUMS: usize = 32;

/// `out = left * right` where a column of `right` is contiguous.
pub(super) fn multiply_few_rows(out: BlockMut, left: Matrix, right: Matrix, parallel: bool) {
    let Elements::F32(rows) = left.elements else {
        panic!("the left operand of a product is in f32");
    };
    let depth = left.columns;
    let task = |(block, mut out): (usize, BlockMut)| {
        out.clear();
        let columns = block * COLUMNS..block * COLUMNS + out.columns();
        match right.elements {
            Elements::F32(all) => {
                multiply_as(&mut out, rows, left, columns.map(|column| &all[column * right.column_stride..][..depth]))
            }
            Elements::F16(all) => {
                multiply_as(&mut out, rows, left, columns.map(|column| &all[column * right.column_stride..][..depth]))
            }
            Elements::Bf16(all) => {
                multiply_as(&mut out, rows, left, columns.map(|column| &all[column * right.column_stride..][..depth]))
            }
            Elements::Quantized(weight, start) => multiply_quantized(
                &mut out,
                rows,
                left,
                columns.map(|column| start + column * right.column_stride),
                weight,
            ),
        }
    };
    let blocks = out.in_columns(COLUMNS).enumerate();
    match parallel {
        true => blocks.collect::<Vec<_>>().into_par_iter().for_each(task),
        false => blocks.for_each(task),
    }
}

/// As [`multiply_as`] for columns that start at these numbers of the weight, each widened once for all rows.
fn multiply_quantized(
    out: &mut BlockMut,
    rows: &[f32],
    left: Matrix,
    columns: impl Iterator<Item = usize>,
    weight: &QuantizedWeight,
) {
    with_buffer(&RIGHT, left.columns, |numbers| {
        vectorised(
            #[inline(always)]
            || {
                for (column, start) in columns.enumerate() {
                    weight.widen(start, numbers);
                    for row in 0..left.rows {
                        out.row(row)[column] = dot(&rows[row * left.row_stride..][..left.columns], numbers);
                    }
                }
            },
        );
    });
}

/// The products of the rows with some columns.
fn multiply_as<'a, T: Widen + 'a>(
    out: &mut BlockMut,
    rows: &[f32],
    left: Matrix,
    columns: impl Iterator<Item = &'a [T]> + Clone,
) {
    for row in 0..left.rows {
        let numbers = &rows[row * left.row_stride..][..left.columns];
        vectorised(
            #[inline(always)]
            || {
                for (out, column) in out.row(row).iter_mut().zip(columns.clone()) {
                    *out = dot(numbers, column);
                }
            },
        );
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
