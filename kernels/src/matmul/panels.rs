//! Packed operands, and their products on all threads: [`Panels`].

use super::{
    Matrix, Store,
    packing::{Packed, Packing},
};
use crate::{
    cpu::{BlockMut, vectorised},
    precision::Precision,
    scratch::with_buffer,
    work::count,
};
use rayon::prelude::*;
use std::cell::RefCell;

/// Words that are packed at once of each operand (16 MiB).
const MOST_PACKED: usize = 1 << 22;
/// Fewest rows that share a packed right operand.
const LEAST_ROWS: usize = 512;
/// Rows and columns of the block of one task: with the packed operands of one depth block they fit a second-level cache.
const BLOCK: (usize, usize) = (192, 256);
/// Blocks shrink to these until there are so many tasks. Not the number of threads: blocks do not change a result, but keep that
/// obvious.
const SMALLER: [(usize, usize); 4] = [(192, 128), (96, 128), (96, 64), (48, 64)];
const TASKS: usize = 8;
/// Up to so many rows a task takes all of them and so many columns, where that makes enough tasks. It packs the part of the right
/// operand that it reads: so a weight is read from memory once, and its panels never leave a cache. With more rows the left
/// operand would be what passes through the cache again and again.
const MOST_ROWS_OF_TASK: usize = 1024;
const COLUMNS_OF_TASK: [usize; 2] = [128, 64];

thread_local! {
    pub(super) static LEFT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    pub(super) static RIGHT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A left operand in panels over its whole depth. More depth can be added: the product is then the sum of the products of both.
pub(crate) struct Panels<'a> {
    packing: Packing,
    rows: usize,
    /// Words of depth that a panel has room for, and those that are packed.
    room: usize,
    filled: usize,
    words: &'a mut [f32],
}

impl Panels<'_> {
    /// Most rows of so much depth that are packed at once.
    pub fn most_rows(precision: Precision, depth: usize) -> usize {
        (MOST_PACKED / Packing::of(precision).words(depth).max(1)).max(LEAST_ROWS)
    }

    /// Packs a matrix, with room for `more` depth, and lends it.
    pub fn with<R>(precision: Precision, left: Matrix, more: usize, work: impl FnOnce(&mut Panels) -> R) -> R {
        let packing = Packing::of(precision);
        let room = packing.words(left.columns) + packing.words(more);
        let len = left.rows.next_multiple_of(packing.left_width()) * room;
        with_buffer(&LEFT, len, |words| {
            let mut panels = Panels { packing, rows: left.rows, room, filled: 0, words };
            panels.append(left);
            work(&mut panels)
        })
    }

    /// Packs more depth behind that which is there.
    pub fn append(&mut self, more: Matrix) {
        let (packing, width) = (self.packing, self.packing.left_width());
        let place = self.filled * width..(self.filled + packing.words(more.columns)) * width;
        assert!(more.rows == self.rows && place.end <= self.room * width, "room for more depth");
        self.words.par_chunks_mut((self.room * width).max(1)).with_min_len(8).enumerate().for_each(|(index, panel)| {
            let rows = index * width..((index + 1) * width).min(more.rows);
            packing.pack_left(&mut panel[place.clone()], more, rows);
        });
        self.filled += packing.words(more.columns);
    }

    /// `out = left * right` or `out += left * right`, where each of `rights` meets its part of the depth, from the first on. The bias, a
    /// number a column, is added to the whole sum.
    pub fn multiply(&self, out: &mut BlockMut, rights: &[Matrix], store: Store, bias: Option<&[f32]>) {
        let (packing, width) = (self.packing, self.packing.right_width());
        let depth: usize = rights.iter().map(|right| packing.words(right.rows)).sum();
        assert!(out.rows() == self.rows && depth <= self.filled, "inner sizes of a matrix product");
        let columns = out.columns();
        for right in rights {
            assert!(right.columns == columns, "columns of a matrix product");
            right.assert_covered();
            count(self.rows, right.rows, columns);
        }
        if depth == 0 {
            if store == Store::Replace {
                out.clear();
            }
            return add_bias(out, bias);
        }
        let left = packing.packed(self.words, self.room * packing.left_width());
        if let Some(size) = columns_of_task(self.rows, columns, width) {
            return out.lend(|out| multiply_by_task(packing, left, rights, depth, size, out, store, bias));
        }
        let slab = (MOST_PACKED / depth / width * width).max(width);
        out.lend(|out| {
            for (index, out) in out.in_columns(slab).enumerate() {
                let columns = index * slab..index * slab + out.columns();
                with_buffer(&RIGHT, columns.len().next_multiple_of(width) * depth, |packed| {
                    packed.par_chunks_mut(width * depth).enumerate().for_each(|(index, panel)| {
                        let first = columns.start + index * width;
                        let lines = first..(first + width).min(columns.end);
                        let mut rest = panel;
                        for right in rights {
                            let (part, others) = rest.split_at_mut(packing.words(right.rows) * width);
                            packing.pack_right(part, *right, lines.clone());
                            rest = others;
                        }
                    });
                    multiply_packed(packing, left, packed, depth, out, store, bias.map(|bias| &bias[columns]));
                });
            }
        });
    }
}

/// A product whose operands are packed over the whole depth, by tasks that have a block of the output each.
fn multiply_packed(
    packing: Packing,
    left: Packed,
    right: &[f32],
    depth: usize,
    out: BlockMut,
    store: Store,
    bias: Option<&[f32]>,
) {
    let (rows, columns) = (out.rows(), out.columns());
    let tasks = |(height, width): (usize, usize)| rows.div_ceil(height) * columns.div_ceil(width);
    let (height, most) =
        SMALLER.into_iter().fold(BLOCK, |block, smaller| if tasks(block) < TASKS { smaller } else { block });
    let height = height.next_multiple_of(packing.left_width());
    // Even blocks: 576 columns are three of 192, not two of 256 and one of 64.
    let width = columns.div_ceil(columns.div_ceil(most)).next_multiple_of(packing.right_width());
    let blocks: Vec<(usize, usize, BlockMut)> = out
        .in_rows(height)
        .enumerate()
        .flat_map(|(row, out)| out.in_columns(width).enumerate().map(move |(column, out)| (row, column, out)))
        .collect();
    let panel_len = packing.right_width() * depth;
    blocks.into_par_iter().with_max_len(1).for_each(|(row, column, mut out)| {
        let first_panel = row * height / packing.left_width();
        let right = &right[column * width / packing.right_width() * panel_len..];
        let mut store = store;
        for words in packing.depth_blocks(depth) {
            let right = packing.right(right, panel_len, words.start);
            packing.multiply(left, first_panel, words, right, &mut out, store);
            store = Store::Add;
        }
        let columns = column * width..column * width + out.columns();
        add_bias(&mut out, bias.map(|bias| &bias[columns]));
    });
}

/// Columns of a task that packs for itself; `None` where operands are packed for all tasks.
fn columns_of_task(rows: usize, columns: usize, panel: usize) -> Option<usize> {
    let size = COLUMNS_OF_TASK.into_iter().find(|size| columns.div_ceil(*size) >= TASKS)?;
    (rows <= MOST_ROWS_OF_TASK).then(|| columns.div_ceil(columns.div_ceil(size)).next_multiple_of(panel))
}

/// A product of a packed left operand by tasks of `size` columns, each of which packs the right operand one depth block at a time.
#[allow(clippy::too_many_arguments)] // Those of a product.
fn multiply_by_task(
    packing: Packing,
    left: Packed,
    rights: &[Matrix],
    depth: usize,
    size: usize,
    out: BlockMut,
    store: Store,
    bias: Option<&[f32]>,
) {
    let width = packing.right_width();
    let blocks: Vec<(usize, BlockMut)> = out.in_columns(size).enumerate().collect();
    blocks.into_par_iter().with_max_len(1).for_each(|(index, mut out)| {
        let columns = index * size..index * size + out.columns();
        let mut store = store;
        for words in packing.depth_blocks(depth) {
            let panel_len = width * words.len();
            with_buffer(&RIGHT, columns.len().div_ceil(width) * panel_len, |packed| {
                for (panel, first) in packed.chunks_exact_mut(panel_len).zip(columns.clone().step_by(width)) {
                    let lines = first..(first + width).min(columns.end);
                    let (mut rest, mut start) = (panel, 0);
                    for right in rights {
                        let end = start + packing.words(right.rows);
                        // The words of this block that are of this operand.
                        let of_right = words.start.clamp(start, end) - start..words.end.clamp(start, end) - start;
                        let (part, others) = rest.split_at_mut(of_right.len() * width);
                        let right = right.with_rows(packing.depths(of_right, right.rows));
                        packing.pack_right(part, right, lines.clone());
                        (rest, start) = (others, end);
                    }
                }
                packing.multiply(left, 0, words, packing.right(packed, panel_len, 0), &mut out, store);
            });
            store = Store::Add;
        }
        add_bias(&mut out, bias.map(|bias| &bias[columns]));
    });
}

/// Adds a number a column to a block that is written.
pub(super) fn add_bias(out: &mut BlockMut, bias: Option<&[f32]>) {
    let Some(bias) = bias else { return };
    vectorised(
        #[inline(always)]
        || {
            for row in 0..out.rows() {
                out.row(row).iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        },
    );
}
