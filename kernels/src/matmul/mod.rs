//! Matrix products of f32 with f32, f16, bf16 or quantized numbers on the CPU, with sums in f32.
//!
//! Both operands are copied into panels, in the order in which the inner loop reads them; a 16-bit or quantized operand is
//! widened, and with [`Precision::Bf16`] rounded, in that copy. A left operand that is packed once may serve several products
//! ([`Panels`]). The layout of the blocks follows Goto & van de Geijn 2008 (doi:10.1145/1356052.1356053). Unusual: an output's
//! sum is always taken in the same order, whatever tile it falls in and however many threads there are, so results are the
//! same bits for every thread count.
//!
//! ```text
//! matrix.rs   a matrix as it lies in memory
//! panels.rs   packed operands, and their products on all threads
//! packing.rs  how operands are packed for this CPU
//! pack.rs     panels of f32
//! pairs.rs    panels of bf16 numbers in pairs of depths
//! dot.rs      products with few rows
//! ```
//!
//! Not here: batches, and blocks for the caches of one particular CPU.

mod dot;
mod matrix;
mod pack;
mod packing;
mod pairs;
mod panels;

pub(crate) use matrix::{Elements, Matrix, Store};
pub(crate) use panels::Panels;

use crate::{
    cpu::{BlockMut, Fresh},
    precision::Precision,
    scratch::with_buffer,
    work::count,
};
use packing::Packing;
use panels::{LEFT, RIGHT, add_bias};
use rayon::prelude::*;

/// Most columns that are packed at once for a product on one thread.
const BLOCK_COLUMNS: usize = 256;
/// Most depth of the left operand that is packed at once.
const MOST_DEPTH: usize = 4096;
/// Products of fewer multiplications than this stay on their thread.
const PARALLEL_FROM: usize = 1 << 18;
/// Up to so many rows, weights are read in place: packing would cost more than it saves.
pub(crate) const FEW_ROWS: usize = 4;
/// Up to so many columns (the factors of adapters have few) the left operand is read once where it lies, by tasks of so many rows:
/// packing it would cost as much as the product.
const FEW_COLUMNS: usize = 64;
const NARROW_ROWS: usize = 192;

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
    if out_stride == right.columns && store == Store::Replace && reads_in_place(left, right) {
        return dot::multiply_few_rows(BlockMut::new(out, out_stride, left.rows, right.columns), left, right, false);
    }
    multiply_in_cache(BlockMut::new(out, out_stride, left.rows, right.columns), left, right, store, precision);
}

fn multiply_in_cache(out: BlockMut, left: Matrix, right: Matrix, store: Store, precision: Precision) {
    assert_product(left, right);
    let packing = Packing::of(precision);
    let panel = packing.left_width();
    let (in_place, packed_from) = packing.in_place(left);
    with_buffer(&LEFT, (left.rows.next_multiple_of(panel) - packed_from) * packing.words(left.columns), |packed| {
        let left = packing.lay(packed, left, in_place, packed_from);
        for (index, mut out) in out.in_columns(BLOCK_COLUMNS).enumerate() {
            let right = right.with_columns(index * BLOCK_COLUMNS..index * BLOCK_COLUMNS + out.columns());
            let mut store = store;
            for words in packing.depth_blocks(packing.words(right.rows)) {
                let right = right.with_rows(packing.depths(words.clone(), right.rows));
                let len = right.columns.next_multiple_of(packing.right_width()) * words.len();
                with_buffer(&RIGHT, len, |buffer| {
                    packing.pack_right(buffer, right, 0..right.columns);
                    let panels = packing.right(buffer, words.len() * packing.right_width(), 0);
                    packing.multiply(left, 0, words.clone(), panels, &mut out, store);
                });
                store = Store::Add;
            }
            if store == Store::Replace {
                out.clear();
            }
        }
    });
}

/// As [`multiply`], on all threads of the current rayon pool and for operands of any size.
pub(crate) fn multiply_parallel(out: &mut [f32], left: Matrix, right: Matrix, store: Store, precision: Precision) {
    multiply_block(BlockMut::new(out, right.columns, left.rows, right.columns), left, right, store, precision, None);
}

/// As [`multiply_parallel`], with an output of its own. The bias, a number a column, is added to the sums.
pub(crate) fn product(left: Matrix, right: Matrix, precision: Precision, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = Fresh::new(left.rows * right.columns);
    multiply_block(out.block(left.rows, right.columns), left, right, Store::Replace, precision, bias);
    out.finish()
}

/// As [`multiply_parallel`], into a block.
fn multiply_block(
    mut out: BlockMut,
    left: Matrix,
    right: Matrix,
    store: Store,
    precision: Precision,
    bias: Option<&[f32]>,
) {
    assert!(bias.is_none_or(|bias| bias.len() == right.columns), "a bias has a number a column");
    let parallel = left.rows * left.columns * right.columns >= PARALLEL_FROM;
    if store == Store::Replace && reads_in_place(left, right) {
        count(left.rows, left.columns, right.columns);
        out.lend(|out| dot::multiply_few_rows(out, left, right, parallel));
        return add_bias(&mut out, bias);
    }
    if !parallel {
        count(left.rows, left.columns, right.columns);
        out.lend(|out| multiply_in_cache(out, left, right, store, precision));
        return add_bias(&mut out, bias);
    }
    if right.columns <= FEW_COLUMNS && Packing::of(precision).reads_in_place(left) {
        count(left.rows, left.columns, right.columns);
        let blocks: Vec<_> = out.in_rows(NARROW_ROWS).enumerate().collect();
        return blocks.into_par_iter().with_max_len(1).for_each(|(index, mut out)| {
            let left = left.with_rows(index * NARROW_ROWS..index * NARROW_ROWS + out.rows());
            out.lend(|out| multiply_in_cache(out, left, right, store, precision));
            add_bias(&mut out, bias);
        });
    }
    assert_product(left, right);
    let depth = left.columns.min(MOST_DEPTH);
    let size = Panels::most_rows(precision, depth);
    for (index, mut out) in out.in_rows(size).enumerate() {
        let left = left.with_rows(index * size..index * size + out.rows());
        for start in (0..left.columns).step_by(depth) {
            let depths = start..(start + depth).min(left.columns);
            let store = if start > 0 { Store::Add } else { store };
            let right = right.with_rows(depths.clone());
            let bias = bias.filter(|_| depths.end == left.columns);
            Panels::with(precision, left.with_columns(depths), 0, |left| {
                left.multiply(&mut out, &[right], store, bias)
            });
        }
    }
}

/// Whether the product is one of few rows, each weight of which lies along its depth.
fn reads_in_place(left: Matrix, right: Matrix) -> bool {
    let fits = left.rows <= FEW_ROWS && left.column_stride == 1 && right.row_stride == 1;
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
    use burn::tensor::{bf16, f16};
    use std::ops::Range;

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
    fn bits_do_not_depend_on_the_place_in_a_tile() {
        with_each_instruction_set(|| {
            let (rows, depth, columns) = (70, 90, 75);
            let (left, right) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
            let product = |rows: Range<usize>, columns: Range<usize>| {
                let mut out = vec![0.5; rows.len() * columns.len()];
                let left = Matrix::dense(Elements::F32(&left), 70, depth).with_rows(rows);
                let right = Matrix::dense(Elements::F32(&right), depth, 75).with_columns(columns.clone());
                for _ in 0..2 {
                    multiply_parallel(&mut out, left, right, Store::Add, Precision::Bf16);
                }
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let (whole, part) = (product(0..rows, 0..columns), product(5..58, 9..70));
            for (row, part) in part.chunks(61).enumerate() {
                assert_eq!(part, &whole[(row + 5) * columns + 9..][..61]);
            }
        });
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
