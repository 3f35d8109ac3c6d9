//! How the operands of a product are packed for this CPU: [`Packing`], and the left one once it is: [`Packed`].

#[cfg(target_arch = "x86_64")]
use super::pairs;
use super::{Elements, Matrix, Store, pack};
#[cfg(target_arch = "x86_64")]
use crate::cpu::{PAIR_COLUMNS, PAIR_ROWS, PairInstructions, PairLeft, multiply_pairs};
use crate::{
    cpu::{BlockMut, Left, Right, multiply_panels, panel_columns, panel_rows, vectorised},
    precision::Precision,
};
use std::ops::Range;

/// Most words of depth of one pass over a tile, by what a word is: the panel of the left operand stays in a first-level cache. A
/// change changes the rounding of sums.
const DEPTH_WIDE: usize = 512;
#[cfg(target_arch = "x86_64")]
const DEPTH_PAIRS: usize = 320;

/// How the operands of a product are packed.
#[derive(Clone, Copy)]
pub(super) enum Packing {
    /// In f32, rounded to bf16 or as they are.
    Wide { round: bool },
    /// In pairs of bf16 numbers.
    #[cfg(target_arch = "x86_64")]
    Pairs(PairInstructions),
}

/// A left operand that is ready.
#[derive(Clone, Copy)]
pub(super) enum Packed<'a> {
    /// In f32.
    Wide(Left<'a>),
    /// In pairs of bf16 numbers.
    #[cfg(target_arch = "x86_64")]
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
            #[cfg(target_arch = "x86_64")]
            Precision::Bf16 => PairInstructions::chosen().map_or(Self::Wide { round: true }, Self::Pairs),
            #[cfg(not(target_arch = "x86_64"))]
            Precision::Bf16 => Self::Wide { round: true },
        }
    }

    /// Rows of a panel of the left operand.
    pub fn left_width(self) -> usize {
        match self {
            Self::Wide { .. } => panel_rows(),
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(_) => PAIR_ROWS,
        }
    }

    /// Columns of a panel of the right operand.
    pub fn right_width(self) -> usize {
        match self {
            Self::Wide { .. } => panel_columns(),
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(_) => PAIR_COLUMNS,
        }
    }

    /// 32-bit words that so much depth is packed to.
    pub fn words(self, depth: usize) -> usize {
        match self {
            Self::Wide { .. } => depth,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(_) => pairs::pairs(depth),
        }
    }

    /// The depths that are packed to some words.
    pub fn depths(self, words: Range<usize>, depth: usize) -> Range<usize> {
        match self {
            Self::Wide { .. } => words,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(_) => 2 * words.start..(2 * words.end).min(depth),
        }
    }

    /// Even parts of so many words, each for one pass over a tile.
    pub fn depth_blocks(self, words: usize) -> impl Iterator<Item = Range<usize>> {
        let most = match self {
            Self::Wide { .. } => DEPTH_WIDE,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(_) => DEPTH_PAIRS,
        };
        let size = words.div_ceil(words.div_ceil(most).max(1)).max(1);
        (0..words).step_by(size).map(move |first| first..(first + size).min(words))
    }

    /// Packs rows of a matrix over its whole depth into panels of `width` rows, zeros where rows end.
    pub fn pack(self, packed: &mut [f32], width: usize, matrix: Matrix, rows: Range<usize>) {
        let depths = 0..matrix.columns;
        match self {
            Self::Wide { round } => {
                let strides = [matrix.row_stride, matrix.column_stride];
                vectorised(
                    #[inline(always)]
                    || pack::pack(packed, width, matrix.elements, rows, depths, strides, round),
                );
            }
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(instructions) => {
                pairs::pack(instructions, bytemuck::cast_slice_mut(packed), width, matrix, rows, depths)
            }
        }
    }

    /// A left operand that [`Self::pack`] packed, with panels of so many words.
    pub fn packed(self, packed: &[f32], panel: usize) -> Packed<'_> {
        match self {
            Self::Wide { .. } => Packed::Wide(Left::Panels(packed, panel)),
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(instructions) => {
                Packed::Pairs(instructions, PairLeft::Panels(bytemuck::cast_slice(packed), panel))
            }
        }
    }

    /// A right operand that [`Self::pack`] packed, with panels of `len` words, from one of their words of depth on.
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
            #[cfg(target_arch = "x86_64")]
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
            #[cfg(target_arch = "x86_64")]
            (Self::Pairs(_), InPlace::Rows(..)) => (lies, 0),
            _ => (InPlace::No, 0),
        }
    }

    /// Makes an operand ready that lies in a cache, with room for its rows from `from` on.
    pub fn lay<'a>(self, room: &'a mut [f32], left: Matrix<'a>, lies: InPlace<'a>, from: usize) -> Packed<'a> {
        let width = self.left_width();
        match (self, lies) {
            (_, InPlace::No) => {
                self.pack(room, width, left, from..left.rows);
                self.packed(room, width * self.words(left.columns))
            }
            (Self::Wide { .. }, InPlace::Rows(values, stride)) => {
                self.pack(room, width, left, from..left.rows);
                Packed::Wide(Left::Rows { values, stride, last: room })
            }
            (Self::Wide { .. }, InPlace::Columns(values, stride)) => {
                self.pack(room, width, left, from..left.rows);
                Packed::Wide(Left::Columns { values, stride, last: room })
            }
            #[cfg(target_arch = "x86_64")]
            (Self::Pairs(instructions), InPlace::Rows(values, stride) | InPlace::Columns(values, stride)) => {
                let room: &mut [u32] = bytemuck::cast_slice_mut(room);
                pairs::round_rows(instructions, room, values, stride, [left.rows, left.columns]);
                Packed::Pairs(instructions, PairLeft::Rows(room, pairs::pairs(left.columns)))
            }
        }
    }
}
