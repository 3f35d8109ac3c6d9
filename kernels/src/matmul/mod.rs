//! Matrix products of f32 with f32, f16, bf16 or quantized numbers on the CPU, with sums in f32.
//!
//! Panels of both operands are copied into the order in which the inner loop reads them ([`pack`]); a 16-bit or
//! quantized operand is widened in that copy, block by block, and never exists in f32 as a whole. The layout of the
//! blocks follows Goto & van de Geijn 2008 (doi:10.1145/1356052.1356053). Unusual: an output's sum is always taken in
//! the same order, whatever tile it falls in and however many threads there are, so results are the same bits for every
//! thread count.
//!
//! Not here: batches, and blocks for the caches of one particular CPU.

mod dot;
mod kernel;
mod pack;
mod packing;
#[cfg(target_arch = "x86_64")]
mod pairs;

use crate::{
    cpu::dispatch, precision::Precision, quantized::QuantizedWeight, scratch::with_buffer, shared_rows::SharedRows,
    work::count,
};
use burn::tensor::{bf16, f16};
use kernel::Tile;
use packing::{Packed, Packing};
#[cfg(target_arch = "x86_64")]
use pairs::PairTile;
use rayon::prelude::*;
use std::{cell::RefCell, ops::Range};

/// Borrowed numbers of a matrix, in the precision they are stored in.
#[derive(Clone, Copy)]
pub(crate) enum Elements<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
    /// The numbers of a quantized weight from this one on.
    Quantized(&'a QuantizedWeight, usize),
}

/// A strided view: element `(row, column)` lies at `row * row_stride + column * column_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub elements: Elements<'a>,
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows behind each other without gaps.
    pub fn dense(elements: Elements<'a>, rows: usize, columns: usize) -> Self {
        Self { elements, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows of `columns` f32 that start `row_stride` apart.
    pub fn strided(elements: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self { elements: Elements::F32(elements), rows, columns, row_stride, column_stride: 1 }
    }

    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Only these rows.
    pub fn with_rows(self, rows: Range<usize>) -> Self {
        let start = (rows.start * self.row_stride).min(self.len());
        let elements = match self.elements {
            Elements::F32(all) => Elements::F32(&all[start..]),
            Elements::F16(all) => Elements::F16(&all[start..]),
            Elements::Bf16(all) => Elements::Bf16(&all[start..]),
            Elements::Quantized(weight, first) => Elements::Quantized(weight, first + start),
        };
        Self { elements, rows: rows.len(), ..self }
    }

    /// Only these columns.
    pub fn with_columns(self, columns: Range<usize>) -> Self {
        self.transposed().with_rows(columns).transposed()
    }

    fn len(&self) -> usize {
        match self.elements {
            Elements::F32(all) => all.len(),
            Elements::F16(all) => all.len(),
            Elements::Bf16(all) => all.len(),
            Elements::Quantized(weight, first) => weight.len() - first,
        }
    }

    fn assert_covered(&self) {
        if self.rows > 0 && self.columns > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride;
            assert!(last < self.len(), "matrix view larger than its storage");
        }
    }
}

/// Whether a product replaces what the output holds or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Replace,
    Add,
}

/// Depth of one pass over a tile: its panels fit the first two caches. A change changes the rounding of sums.
const DEPTH: usize = 512;
/// Most columns a task packs for itself: with [`DEPTH`], half of a second-level cache.
const BLOCK_COLUMNS: usize = 256;
/// Most rows a task works through with one packed block of columns: packing costs once per so many.
const BLOCK_ROWS: usize = 1024;
/// Numbers of the left operand that are packed at once (16 MiB), and the most depth they have: a multiple of [`DEPTH`].
const MOST_PACKED: usize = 1 << 22;
const MOST_DEPTH: usize = 8 * DEPTH;
/// Blocks shrink until there are so many tasks. Not the number of threads: blocks do not change a result, but keep that obvious.
const TASKS: usize = 8;
/// Products of fewer multiplications than this stay on their thread.
const PARALLEL_FROM: usize = 1 << 18;
/// Up to so many rows, weights are read in place: packing would cost more than it saves.
const FEW_ROWS: usize = 4;

/// Up to so many columns (the factors of adapters have few) the left operand is read once where it lies, by tasks of so many rows:
/// packing it would cost as much as the product.
const FEW_COLUMNS: usize = 64;
const NARROW_ROWS: usize = 192;

thread_local! {
    static LEFT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static RIGHT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `out = left * right` or `out += left * right` on this thread; row `i` of the output starts at `i * out_stride`.
///
/// Made for operands that lie in a cache: the left one is read in place where it can be.
pub(crate) fn multiply(
    out: &mut [f32],
    out_stride: usize,
    left: Matrix,
    right: Matrix,
    store: Store,
    precision: Precision,
) {
    count(left.rows, left.columns, right.columns);
    if few_rows(left, right, store) && out_stride == right.columns {
        return dot::multiply_few_rows(out, left, right, false);
    }
    multiply_in_cache(out, out_stride, left, right, store, precision);
}

fn multiply_in_cache(
    out: &mut [f32],
    out_stride: usize,
    left: Matrix,
    right: Matrix,
    store: Store,
    precision: Precision,
) {
    assert_product(left, right);
    let (packing, panel) = (Packing::of(precision), kernel::panel_rows());
    let panels = left.rows.div_ceil(panel);
    let out = SharedRows::new(out, out_stride, left.rows, right.columns);
    let (in_place, packed_from) = packing.in_place(left);
    with_buffer(&LEFT, (panels * panel - packed_from) * packing.words(left.columns), |packed| {
        let left = packing.lay(packed, left, in_place, packed_from);
        for first in (0..right.columns).step_by(BLOCK_COLUMNS) {
            let columns = first..(first + BLOCK_COLUMNS).min(right.columns);
            run(left, right, &out, 0..panels, columns, store);
        }
    });
}

/// As [`multiply`], on all threads of the current rayon pool and for operands of any size. The output has no gaps between rows.
pub(crate) fn multiply_parallel(out: &mut [f32], left: Matrix, right: Matrix, store: Store, precision: Precision) {
    let parallel = left.rows * left.columns * right.columns >= PARALLEL_FROM;
    count(left.rows, left.columns, right.columns);
    if few_rows(left, right, store) {
        return dot::multiply_few_rows(out, left, right, parallel);
    }
    if !parallel {
        return multiply_in_cache(out, right.columns, left, right, store, precision);
    }
    if right.columns <= FEW_COLUMNS && Packing::of(precision).reads_in_place(left) {
        let rows = NARROW_ROWS;
        return out.par_chunks_mut(rows * right.columns).enumerate().with_max_len(1).for_each(|(index, out)| {
            let left = left.with_rows(index * rows..((index + 1) * rows).min(left.rows));
            multiply_in_cache(out, right.columns, left, right, store, precision);
        });
    }
    assert_product(left, right);
    let depth = left.columns.min(MOST_DEPTH);
    let rows = (MOST_PACKED / depth).max(BLOCK_ROWS).min(left.rows);
    for (index, out) in out[..left.rows * right.columns].chunks_mut(rows * right.columns).enumerate() {
        let left = left.with_rows(index * rows..((index + 1) * rows).min(left.rows));
        for start in (0..left.columns).step_by(depth) {
            let depths = start..(start + depth).min(left.columns);
            let store = if start > 0 { Store::Add } else { store };
            multiply_packed(out, left.with_columns(depths.clone()), right.with_rows(depths), store, precision);
        }
    }
}

/// A product whose left operand is packed as a whole by all threads, for all tasks.
fn multiply_packed(out: &mut [f32], left: Matrix, right: Matrix, store: Store, precision: Precision) {
    let (packing, panel) = (Packing::of(precision), kernel::panel_rows());
    let (panels, panel_len) = (left.rows.div_ceil(panel), panel * packing.words(left.columns));
    let out = SharedRows::new(out, right.columns, left.rows, right.columns);
    with_buffer(&LEFT, panels * panel_len, |packed| {
        packed.par_chunks_mut(panel_len).with_min_len(8).enumerate().for_each(|(index, packed)| {
            packing.pack(packed, left, index * panel..((index + 1) * panel).min(left.rows));
        });
        let packed = packing.packed(packed);

        let (mut block_rows, mut block_columns) = (BLOCK_ROWS, BLOCK_COLUMNS);
        let tasks = |rows: usize, columns: usize| left.rows.div_ceil(rows) * right.columns.div_ceil(columns);
        for (rows, columns) in [(512, 256), (256, 256), (256, 128), (128, 128), (128, 64), (96, 64)] {
            if tasks(block_rows, block_columns) < TASKS {
                (block_rows, block_columns) = (rows, columns);
            }
        }
        let block_panels = block_rows.div_ceil(panel);
        let column_blocks = right.columns.div_ceil(block_columns);
        // Even blocks: 576 columns are three of 192, not two of 256 and one of 64.
        let width = right.columns.div_ceil(column_blocks).next_multiple_of(kernel::panel_columns());
        let column_blocks = right.columns.div_ceil(width);
        let tasks = panels.div_ceil(block_panels) * column_blocks;
        (0..tasks).into_par_iter().with_max_len(1).for_each(|index| {
            let (first_panel, first_column) = (index / column_blocks * block_panels, index % column_blocks * width);
            let panels = first_panel..(first_panel + block_panels).min(panels);
            let columns = first_column..(first_column + width).min(right.columns);
            run(packed, right, &out, panels, columns, store);
        });
    });
}

fn run(left: Packed, right: Matrix, out: &SharedRows, panels: Range<usize>, columns: Range<usize>, store: Store) {
    let len = columns.len().next_multiple_of(kernel::panel_columns()) * DEPTH.min(right.rows);
    with_buffer(&RIGHT, len, |buffer| match left {
        Packed::Wide { left, round } => {
            dispatch(Tile { left, right, out, panels, columns, store, round, buffer });
        }
        #[cfg(target_arch = "x86_64")]
        Packed::Pairs(instructions, left) => {
            let buffer = bytemuck::cast_slice_mut(buffer);
            pairs::compute(instructions, PairTile { left, right, out, panels, columns, store, buffer });
        }
    });
}

fn few_rows(left: Matrix, right: Matrix, store: Store) -> bool {
    let fits = left.rows <= FEW_ROWS && left.column_stride == 1 && right.row_stride == 1 && store == Store::Replace;
    if fits {
        assert_product(left, right);
    }
    fits
}

fn assert_product(left: Matrix, right: Matrix) {
    assert_eq!(left.columns, right.rows, "inner sizes of a matrix product");
    left.assert_covered();
    right.assert_covered();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::testing::with_each_instruction_set,
        testing::{in_pools, numbers},
    };

    fn expected(
        left: &[f32],
        right: impl Fn(usize, usize) -> f32,
        rows: usize,
        depth: usize,
        columns: usize,
    ) -> Vec<f64> {
        let mut out = vec![0.0; rows * columns];
        for row in 0..rows {
            for column in 0..columns {
                out[row * columns + column] =
                    (0..depth).map(|k| f64::from(left[row * depth + k]) * f64::from(right(k, column))).sum();
            }
        }
        out
    }

    fn assert_close(out: &[f32], expected: &[f64], depth: usize) {
        let tolerance = 1e-7 * (depth as f64 + 4.0);
        for (out, expected) in out.iter().zip(expected) {
            assert!((f64::from(*out) - expected).abs() < tolerance, "{out} is not {expected}");
        }
    }

    const SHAPES: [(usize, usize, usize); 8] =
        [(1, 1, 1), (1, 37, 70), (4, 65, 33), (5, 3, 2), (13, 100, 70), (97, 513, 257), (130, 5030, 31), (12, 512, 32)];

    #[test]
    fn every_layout_and_precision_multiplies() {
        for (rows, depth, columns) in SHAPES {
            let (left, right) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
            let brain: Vec<bf16> = right.iter().map(|x| bf16::from_f32(*x)).collect();
            let half: Vec<f16> = right.iter().map(|x| f16::from_f32(*x)).collect();
            let turned: Vec<f32> = (0..depth * rows).map(|i| left[(i % rows) * depth + i / rows]).collect();
            let lefts = [
                Matrix::dense(Elements::F32(&left), rows, depth),
                Matrix::dense(Elements::F32(&turned), depth, rows).transposed(),
            ];
            for view in lefts {
                let mut out = vec![f32::NAN; rows * columns];
                let plain = expected(&left, |k, c| right[k * columns + c], rows, depth, columns);
                multiply_parallel(
                    &mut out,
                    view,
                    Matrix::dense(Elements::F32(&right), depth, columns),
                    Store::Replace,
                    Precision::F32,
                );
                assert_close(&out, &plain, depth);
                multiply(
                    &mut out,
                    columns,
                    view,
                    Matrix::dense(Elements::F32(&right), depth, columns),
                    Store::Add,
                    Precision::F32,
                );
                let doubled: Vec<f64> = plain.iter().map(|x| 2.0 * x).collect();
                assert_close(&out, &doubled, 2 * depth);

                let transposed = expected(&left, |k, c| brain[c * depth + k].to_f32(), rows, depth, columns);
                let weight = Matrix::dense(Elements::Bf16(&brain), columns, depth).transposed();
                multiply_parallel(&mut out, view, weight, Store::Replace, Precision::F32);
                assert_close(&out, &transposed, depth);

                let transposed = expected(&left, |k, c| half[c * depth + k].to_f32(), rows, depth, columns);
                let weight = Matrix::dense(Elements::F16(&half), columns, depth).transposed();
                multiply_parallel(&mut out, view, weight, Store::Replace, Precision::F32);
                assert_close(&out, &transposed, depth);
            }
        }
    }

    /// Products of rounded operands, whatever their layout, precision and number of depths; a few rows are read as they are.
    #[test]
    fn bf16_products_are_those_of_rounded_operands() {
        let round = |all: &[f32]| all.iter().map(|x| bf16::from_f32(*x).to_f32()).collect::<Vec<_>>();
        for (rows, depth, columns) in SHAPES.into_iter().chain([(13, 101, 70), (200, 513, 300), (64, 64, 64)]) {
            let (left, right) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
            let turned: Vec<f32> = (0..depth * rows).map(|i| left[(i % rows) * depth + i / rows]).collect();
            let brain: Vec<bf16> = right.iter().map(|x| bf16::from_f32(*x)).collect();
            let rounded = [round(&left), round(&right)];
            let lefts = [
                Matrix::dense(Elements::F32(&left), rows, depth),
                Matrix::dense(Elements::F32(&turned), depth, rows).transposed(),
            ];
            for view in lefts {
                let plain = expected(&rounded[0], |k, c| rounded[1][k * columns + c], rows, depth, columns);
                let turned = expected(&rounded[0], |k, c| rounded[1][c * depth + k], rows, depth, columns);
                let doubled: Vec<f64> = plain.iter().zip(&turned).map(|(plain, turned)| plain + turned).collect();
                let (dense, weight) = (
                    Matrix::dense(Elements::F32(&right), depth, columns),
                    Matrix::dense(Elements::Bf16(&brain), columns, depth).transposed(),
                );
                let mut out = vec![f32::NAN; rows * columns];
                multiply_parallel(&mut out, view, dense, Store::Replace, Precision::Bf16);
                if rows > FEW_ROWS {
                    assert_close(&out, &plain, depth);
                }
                multiply(&mut out, columns, view, weight, Store::Add, Precision::Bf16);
                if rows > FEW_ROWS {
                    assert_close(&out, &doubled, 2 * depth);
                }
                multiply_parallel(&mut out, view, weight, Store::Replace, Precision::Bf16);
                if rows > FEW_ROWS {
                    assert_close(&out, &turned, depth);
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_multiplies() {
        with_each_instruction_set(bf16_products_are_those_of_rounded_operands);
        with_each_instruction_set(every_layout_and_precision_multiplies);
    }

    #[test]
    fn rows_of_a_wider_output_keep_their_neighbours() {
        let (left, right) = (numbers(7 * 5, 1), numbers(5 * 3, 2));
        let mut out = vec![9.0; 7 * 4];
        let views = (Matrix::dense(Elements::F32(&left), 7, 5), Matrix::dense(Elements::F32(&right), 5, 3));
        multiply(&mut out, 4, views.0, views.1, Store::Replace, Precision::F32);
        assert!(out.iter().skip(3).step_by(4).all(|x| *x == 9.0));
        let dense: Vec<f32> = out.chunks(4).flat_map(|row| row[..3].to_vec()).collect();
        assert_close(&dense, &expected(&left, |k, c| right[k * 3 + c], 7, 5, 3), 5);
    }

    #[test]
    fn no_depth_gives_zeros() {
        let mut out = vec![f32::NAN; 6];
        let (left, right) = (Matrix::dense(Elements::F32(&[]), 2, 0), Matrix::dense(Elements::F32(&[]), 0, 3));
        multiply(&mut out, 3, left, right, Store::Replace, Precision::F32);
        assert_eq!(out, [0.0; 6]);
    }

    #[test]
    fn bits_do_not_depend_on_threads_or_tiles() {
        [Precision::F32, Precision::Bf16].into_iter().for_each(bits_of);
    }

    fn bits_of(precision: Precision) {
        let (rows, depth, columns) = (300, 700, 290);
        let (left, right) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
        let product = |rows: Range<usize>| {
            let mut out = vec![0.0; rows.len() * columns];
            let left = Matrix::dense(Elements::F32(&left), 300, depth).with_rows(rows);
            let right = Matrix::dense(Elements::F32(&right), depth, columns);
            multiply_parallel(&mut out, left, right, Store::Replace, precision);
            out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let whole = in_pools(|| product(0..rows));
        assert_eq!(whole[17 * columns..30 * columns], product(17..30));
    }

    #[test]
    fn infinities_and_nan_pass_through_bf16() {
        let left = [1.0, f32::NAN, f32::INFINITY, 0.0, f32::MAX, -1.0];
        let mut out = [0.0; 6];
        let view = Matrix::dense(Elements::F32(&left), 6, 1);
        multiply(&mut out, 1, view, Matrix::dense(Elements::F32(&[1.0]), 1, 1), Store::Replace, Precision::Bf16);
        assert!(out[1].is_nan() && out[2..5] == [f32::INFINITY, 0.0, f32::INFINITY], "{out:?}");
        assert_eq!([out[0], out[5]], [1.0, -1.0]);
    }

    #[test]
    fn infinities_and_nan_pass_through() {
        let left = [1.0, f32::NAN, f32::INFINITY, 0.0];
        let mut out = [0.0; 4];
        let view = Matrix::dense(Elements::F32(&left), 4, 1);
        multiply(&mut out, 1, view, Matrix::dense(Elements::F32(&[1.0]), 1, 1), Store::Replace, Precision::F32);
        assert!(out[0] == 1.0 && out[1].is_nan() && out[2] == f32::INFINITY && out[3] == 0.0);
    }
}
