//! How the packed operands of a product of pairs lie, and the walk over the tiles of its output: [`Product::walk`].

use crate::cpu::{BlockMut, Right};
use std::ops::Range;

/// How the left operand lies, in words.
#[derive(Clone, Copy)]
pub(crate) enum PairLeft<'a> {
    /// Panels of as many rows as a tile has, that start so many words apart.
    Panels(&'a [u32], usize),
    /// The pairs of a row follow each other; rows start so many words apart, and there are as many as whole panels have.
    Rows(&'a [u32], usize),
}

/// Some pairs of the depth of a product.
pub(super) struct Product<'a> {
    pub left: PairLeft<'a>,
    /// The panel of the left operand that the first row of the output belongs to.
    pub first: usize,
    pub pairs: Range<usize>,
    pub right: Right<'a, u32>,
    /// Whether sums are added to what the output has.
    pub add: bool,
}

/// The rows of a tile in the left operand, from their first pair on.
#[derive(Clone, Copy)]
pub(super) enum Lies<'a> {
    /// A panel.
    Panel(&'a [u32]),
    /// Rows that start so many words apart.
    Rows(&'a [u32], usize),
}

/// A tile of the output, and the words of both operands for it.
pub(super) struct Tile<'a> {
    pub left: Lies<'a>,
    /// A panel of the right operand, `pairs` pairs of it.
    pub right: &'a [u32],
    pub pairs: usize,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    pub add: bool,
}

impl Product<'_> {
    /// Calls `tile` for every tile of the output, of so many rows and columns or fewer at its edges.
    ///
    /// # Safety
    /// `tile` writes all numbers of its rows and columns.
    pub unsafe fn walk<const ROWS: usize, const COLUMNS: usize>(
        self,
        out: &mut BlockMut,
        tile: impl Fn(Tile, &mut BlockMut),
    ) {
        let Self { left, first, pairs, right, add } = self;
        let (rows, columns, count) = (out.rows(), out.columns(), pairs.len());
        assert!(!pairs.is_empty() && (!add || out.is_written()));
        assert!(right.panels.len() >= columns.div_ceil(COLUMNS) * right.len);
        for panel in 0..rows.div_ceil(ROWS) {
            let of_out = panel * ROWS..((panel + 1) * ROWS).min(rows);
            let at = first + panel;
            let left = match left {
                PairLeft::Panels(words, len) => Lies::Panel(&words[at * len + pairs.start * ROWS..][..count * ROWS]),
                PairLeft::Rows(words, stride) => {
                    let words = &words[at * ROWS * stride + pairs.start..];
                    Lies::Rows(&words[..(ROWS - 1) * stride + count], stride)
                }
            };
            for (right, first) in right.blocks(count, COLUMNS).zip((0..columns).step_by(COLUMNS)) {
                let (rows, columns) = (of_out.clone(), first..(first + COLUMNS).min(columns));
                tile(Tile { left, right, pairs: count, rows, columns, add }, out);
            }
        }
        // SAFETY: every row of every panel was, over all columns, whose panels are there by the check above.
        unsafe { out.assume_written() };
    }
}
