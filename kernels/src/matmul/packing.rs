//! How the operands of a product are packed for this CPU: [`Packing`], and the left one once it is: [`Packed`].

use super::{Elements, Matrix, Store, pack, pairs};
use crate::{
    cpu::{
        BlockMut, Left, PairInstructions, PairLeft, Right, finish_left, multiply_pairs, multiply_panels, panel_columns,
        panel_rows, vectorised,
    },
    precision::Precision,
};
use std::ops::Range;

/// Most words of depth of one pass over a tile, by what a word is: the panel of the left operand stays in a first-level cache. A
/// change changes the rounding of sums.
const DEPTH_WIDE: usize = 512;
const DEPTH_PAIRS: usize = 320;

/// How the operands of a product are packed.
#[derive(Clone, Copy)]
pub(super) enum Packing {
    /// In f32, rounded to bf16 or as they are.
    Wide { round: bool },
    /// In pairs of bf16 numbers.
    Pairs(PairInstructions),
}

/// A left operand that is ready.
#[derive(Clone, Copy)]
pub(super) enum Packed<'a> {
    /// In f32.
    Wide(Left<'a>),
    /// In pairs of bf16 numbers.
    Pairs(PairInstructions, PairLeft<'a>),
}

/// A left operand that needs no turning: where its lines start, and how far apart they are.
#[derive(Clone, Copy)]
pub(super) enum InPlace<'a> {
    /// Its rows are contiguous.
    Rows(&'a [f32], usize),
    /// Its columns are.
    Columns(&'a [f32], usize),
    /// It is packed.
    No,
}

impl Packing {
    /// That of this CPU.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 | Precision::Tf32 => Self::Wide { round: false },
            Precision::Bf16 => PairInstructions::chosen().map_or(Self::Wide { round: true }, Self::Pairs),
        }
    }

    /// Rows of a panel of the left operand.
    pub fn left_width(self) -> usize {
        match self {
            Self::Wide { .. } => panel_rows(),
            Self::Pairs(instructions) => instructions.rows(),
        }
    }

    /// Columns of a panel of the right operand.
    pub fn right_width(self) -> usize {
        match self {
            Self::Wide { .. } => panel_columns(),
            Self::Pairs(instructions) => instructions.columns(),
        }
    }

    /// 32-bit words that so much depth is packed to.
    pub fn words(self, depth: usize) -> usize {
        match self {
            Self::Wide { .. } => depth,
            Self::Pairs(instructions) => instructions.words(depth),
        }
    }

    /// The depths that are packed to some words.
    pub fn depths(self, words: Range<usize>, depth: usize) -> Range<usize> {
        match self {
            Self::Wide { .. } => words,
            Self::Pairs(_) => (2 * words.start).min(depth)..(2 * words.end).min(depth),
        }
    }

    /// Even parts of so many words, each for one pass over a tile.
    pub fn depth_blocks(self, words: usize) -> impl Iterator<Item = Range<usize>> {
        let (most, unit) = match self {
            Self::Wide { .. } => (DEPTH_WIDE, 1),
            Self::Pairs(instructions) => (DEPTH_PAIRS, instructions.unit()),
        };
        let size = words.div_ceil(words.div_ceil(most).max(1)).max(1).next_multiple_of(unit);
        (0..words).step_by(size).map(move |first| first..(first + size).min(words))
    }

    /// Packs rows of a left operand over its whole depth into panels, zeros where rows end.
    pub fn pack_left(self, packed: &mut [f32], left: Matrix, rows: Range<usize>) {
        self.pack(packed, self.left_width(), left, rows);
        match self {
            Self::Wide { .. } => {}
            Self::Pairs(instructions) => finish_left(instructions, bytemuck::cast_slice_mut(packed)),
        }
    }

    /// Packs columns of a right operand over its whole depth into panels, zeros where columns end.
    pub fn pack_right(self, packed: &mut [f32], right: Matrix, columns: Range<usize>) {
        self.pack(packed, self.right_width(), right.transposed(), columns);
    }

    /// Packs rows into panels of `width` rows.
    fn pack(self, packed: &mut [f32], width: usize, matrix: Matrix, rows: Range<usize>) {
        let depths = 0..matrix.columns;
        match self {
            Self::Wide { round } => {
                let strides = [matrix.row_stride, matrix.column_stride];
                vectorised(
                    #[inline(always)]
                    || pack::pack(packed, width, matrix.elements, rows, depths, strides, round),
                );
            }
            Self::Pairs(instructions) => {
                pairs::pack(instructions, bytemuck::cast_slice_mut(packed), width, matrix, rows, depths)
            }
        }
    }

    /// A left operand that [`Self::pack_left`] packed, with panels of so many words.
    pub fn packed(self, packed: &[f32], panel: usize) -> Packed<'_> {
        match self {
            Self::Wide { .. } => Packed::Wide(Left::Panels(packed, panel)),
            Self::Pairs(instructions) => {
                Packed::Pairs(instructions, PairLeft::Panels(bytemuck::cast_slice(packed), panel))
            }
        }
    }

    /// A right operand that [`Self::pack_right`] packed, with panels of `len` words, from one of their words of depth on.
    pub fn right(self, panels: &[f32], len: usize, start: usize) -> Right<'_, f32> {
        Right { panels, len, start }
    }

    /// `out = left * right` or `out += left * right` over some words of the depth. The first row of `out` is that of panel `first`.
    pub fn multiply(
        self,
        left: Packed,
        first: usize,
        words: Range<usize>,
        right: Right<f32>,
        out: &mut BlockMut,
        store: Store,
    ) {
        let add = store == Store::Add;
        match left {
            Packed::Wide(left) => multiply_panels(left, first, words, right, out, add),
            Packed::Pairs(instructions, left) => {
                let right = Right { panels: bytemuck::cast_slice(right.panels), len: right.len, start: right.start };
                multiply_pairs(instructions, left, first, words, right, out, add);
            }
        }
    }

    /// Whether an operand is read where it lies.
    pub fn reads_in_place(self, left: Matrix) -> bool {
        !matches!(self.in_place(left), (InPlace::No, _))
    }

    /// How an operand that lies in a cache is read, and the first of its rows that needs room.
    pub fn in_place<'a>(self, left: Matrix<'a>) -> (InPlace<'a>, usize) {
        let lies = match left.elements {
            Elements::F32(values) if left.column_stride == 1 => InPlace::Rows(values, left.row_stride),
            Elements::F32(values) if left.row_stride == 1 => InPlace::Columns(values, left.column_stride),
            _ => InPlace::No,
        };
        let whole = left.rows / self.left_width() * self.left_width();
        match (self, lies) {
            (Self::Wide { round: false }, InPlace::Rows(..) | InPlace::Columns(..)) => (lies, whole),
            (Self::Pairs(_), InPlace::Rows(..)) => (lies, 0),
            _ => (InPlace::No, 0),
        }
    }

    /// Makes an operand ready that lies in a cache, with room for its rows from `from` on.
    pub fn lay<'a>(self, room: &'a mut [f32], left: Matrix<'a>, lies: InPlace<'a>, from: usize) -> Packed<'a> {
        let width = self.left_width();
        match (self, lies) {
            (_, InPlace::No) => {
                self.pack_left(room, left, from..left.rows);
                self.packed(room, width * self.words(left.columns))
            }
            (Self::Wide { .. }, InPlace::Rows(values, stride)) => {
                self.pack_left(room, left, from..left.rows);
                Packed::Wide(Left::Rows { values, stride, last: room })
            }
            (Self::Wide { .. }, InPlace::Columns(values, stride)) => {
                self.pack_left(room, left, from..left.rows);
                Packed::Wide(Left::Columns { values, stride, last: room })
            }
            (Self::Pairs(instructions), InPlace::Rows(values, stride) | InPlace::Columns(values, stride)) => {
                let room: &mut [u32] = bytemuck::cast_slice_mut(room);
                pairs::round_rows(instructions, room, values, stride, [left.rows, left.columns]);
                Packed::Pairs(instructions, PairLeft::Rows(room, instructions.words(left.columns)))
            }
        }
    }
}
