//! How the operands of a product are packed for this CPU: [`Packing`], and the left one once it is: [`Packed`].

#[cfg(target_arch = "x86_64")]
use super::pairs::{self, PairLeft};
use super::{
    Elements, Matrix,
    kernel::{self, Left},
    pack,
};
#[cfg(target_arch = "x86_64")]
use crate::cpu::{PAIR_ROWS, PairInstructions};
use crate::{cpu::vectorised, precision::Precision};
use std::ops::Range;

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
    /// In f32; the right operand is rounded likewise.
    Wide { left: Left<'a>, round: bool },
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
            Precision::F32 => Self::Wide { round: false },
            #[cfg(target_arch = "x86_64")]
            Precision::Bf16 => PairInstructions::chosen().map_or(Self::Wide { round: true }, Self::Pairs),
            #[cfg(not(target_arch = "x86_64"))]
            Precision::Bf16 => Self::Wide { round: true },
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

    /// Packs rows of the left operand into panels.
    pub fn pack(self, packed: &mut [f32], left: Matrix, rows: Range<usize>) {
        let (panel, depths) = (kernel::panel_rows(), 0..left.columns);
        match self {
            Self::Wide { round } => {
                let strides = [left.row_stride, left.column_stride];
                vectorised(
                    #[inline(always)]
                    || pack::pack(packed, panel, left.elements, rows, depths, strides, round),
                );
            }
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(instructions) => {
                pairs::pack(instructions, bytemuck::cast_slice_mut(packed), PAIR_ROWS, left, rows, depths)
            }
        }
    }

    /// An operand that [`Self::pack`] packed.
    pub fn packed(self, packed: &[f32]) -> Packed<'_> {
        match self {
            Self::Wide { round } => Packed::Wide { left: Left::Packed(packed), round },
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(instructions) => Packed::Pairs(instructions, PairLeft::Panels(bytemuck::cast_slice(packed))),
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
        let whole = left.rows / kernel::panel_rows() * kernel::panel_rows();
        match (self, lies) {
            (Self::Wide { round: false }, InPlace::Rows(..) | InPlace::Columns(..)) => (lies, whole),
            #[cfg(target_arch = "x86_64")]
            (Self::Pairs(_), InPlace::Rows(..)) => (lies, 0),
            _ => (InPlace::No, 0),
        }
    }

    /// Makes an operand ready that lies in a cache, with room for its rows from `from` on.
    pub fn lay<'a>(self, room: &'a mut [f32], left: Matrix<'a>, lies: InPlace<'a>, from: usize) -> Packed<'a> {
        match (self, lies) {
            (_, InPlace::No) => {
                self.pack(room, left, from..left.rows);
                self.packed(room)
            }
            (Self::Wide { round }, InPlace::Rows(values, stride)) => {
                self.pack(room, left, from..left.rows);
                Packed::Wide { left: Left::Rows { values, stride, last: room }, round }
            }
            (Self::Wide { round }, InPlace::Columns(values, stride)) => {
                self.pack(room, left, from..left.rows);
                Packed::Wide { left: Left::Columns { values, stride, last: room }, round }
            }
            #[cfg(target_arch = "x86_64")]
            (Self::Pairs(instructions), InPlace::Rows(values, stride) | InPlace::Columns(values, stride)) => {
                let room = bytemuck::cast_slice_mut(room);
                pairs::round_rows(instructions, room, values, stride, [left.rows, left.columns]);
                Packed::Pairs(instructions, PairLeft::Rows(room))
            }
        }
    }
}
