//! Copies lines of a matrix into panels: `width` lines side by side, one depth after the other, f32, zeros where lines end.

use super::Elements;
use crate::{precision::nearest_bf16, quantized::QuantizedWeight};
use burn::tensor::{bf16, f16};
use std::ops::Range;

/// A stored number that becomes an f32 without rounding.
pub(super) trait Widen: Copy + Send + Sync {
    fn widen(self) -> f32;
}

impl Widen for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Widen for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Widen for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        // Without the branches of the library's conversion, so that loops over it are vectorised.
        const TWO_TO_112: f32 = f32::from_bits(0x7780_0000);
        let bits = u32::from(self.to_bits());
        let size = bits & 0x7fff;
        let special = f32::from_bits((size << 13) | 0x7f80_0000);
        let finite = f32::from_bits(size << 13) * TWO_TO_112;
        let magnitude = if size >= 0x7c00 { special } else { finite };
        f32::from_bits(magnitude.to_bits() | ((bits & 0x8000) << 16))
    }
}

/// Fills `packed` with the panels of `lines`, each `width` wide and `depths` long, their numbers rounded to bf16 if `round` says so.
#[inline(always)]
pub(super) fn pack(
    packed: &mut [f32],
    width: usize,
    elements: Elements,
    lines: Range<usize>,
    depths: Range<usize>,
    [line_stride, depth_stride]: [usize; 2],
    round: bool,
) {
    match elements {
        Elements::F32(all) => pack_as(packed, width, all, lines, depths, line_stride, depth_stride),
        Elements::F16(all) => pack_as(packed, width, all, lines, depths, line_stride, depth_stride),
        Elements::Bf16(all) => pack_as(packed, width, all, lines, depths, line_stride, depth_stride),
        Elements::Quantized(weight, start) => {
            let place = Place { start, line_stride, depth_stride };
            pack_widened(packed, width, weight, lines, depths, place);
        }
    }
    if round {
        for number in packed {
            *number = f32::from_bits(u32::from(nearest_bf16(*number)) << 16);
        }
    }
}

/// Where the numbers of a matrix lie in a quantized weight.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    line_stride: usize,
    depth_stride: usize,
}

/// Numbers of a line that are widened at once.
const WIDENED: usize = 256;

/// As [`pack_as`], for numbers that are widened along a line or a row before they are copied.
#[inline(always)]
fn pack_widened(
    packed: &mut [f32],
    width: usize,
    weight: &QuantizedWeight,
    lines: Range<usize>,
    depths: Range<usize>,
    Place { start, line_stride, depth_stride }: Place,
) {
    let panel_len = width * depths.len();
    if panel_len == 0 {
        return;
    }
    for (panel, first) in packed.chunks_exact_mut(panel_len).zip(lines.clone().step_by(width)) {
        let count = width.min(lines.end - first);
        if count < width {
            panel.fill(0.0);
        }
        if line_stride == 1 {
            for (row, depth) in panel.chunks_exact_mut(width).zip(depths.clone()) {
                weight.widen(start + depth * depth_stride + first, &mut row[..count]);
            }
        } else {
            assert_eq!(depth_stride, 1, "a quantized weight lies in rows or in columns");
            let mut buffer = [0.0; TURNED.0 * WIDENED];
            for line in (0..count).step_by(TURNED.0) {
                let together = TURNED.0.min(count - line);
                for depth in (0..depths.len()).step_by(WIDENED) {
                    let long = WIDENED.min(depths.len() - depth);
                    for (index, row) in buffer.chunks_exact_mut(WIDENED).take(together).enumerate() {
                        let place = (first + line + index) * line_stride + depths.start + depth;
                        weight.widen(start + place, &mut row[..long]);
                    }
                    turn(&mut panel[depth * width + line..], width, &buffer, WIDENED, together, long);
                }
            }
        }
    }
}

#[inline(always)]
fn pack_as<T: Widen>(
    packed: &mut [f32],
    width: usize,
    all: &[T],
    lines: Range<usize>,
    depths: Range<usize>,
    line_stride: usize,
    depth_stride: usize,
) {
    let panel_len = width * depths.len();
    if panel_len == 0 {
        return;
    }
    for (panel, first) in packed.chunks_exact_mut(panel_len).zip(lines.clone().step_by(width)) {
        let count = width.min(lines.end - first);
        if count < width {
            panel.fill(0.0);
        }
        if line_stride == 1 {
            for (row, depth) in panel.chunks_exact_mut(width).zip(depths.clone()) {
                let start = depth * depth_stride + first;
                for (to, from) in row.iter_mut().zip(&all[start..start + count]) {
                    *to = from.widen();
                }
            }
        } else if depth_stride == 1 {
            turn(panel, width, &all[first * line_stride + depths.start..], line_stride, count, depths.len());
        } else {
            for line in 0..count {
                for (index, depth) in depths.clone().enumerate() {
                    panel[index * width + line] = all[(first + line) * line_stride + depth * depth_stride].widen();
                }
            }
        }
    }
}

/// Lines and depths of the blocks that are turned at once. Larger ones do not stay in registers, and a plain loop is turned into
/// scattered stores, which take three times as long.
const TURNED: (usize, usize) = (4, 8);

/// Lines that are contiguous over their depth become columns of the panel.
#[inline(always)]
fn turn<T: Widen>(panel: &mut [f32], width: usize, all: &[T], stride: usize, lines: usize, depths: usize) {
    let whole = (lines / TURNED.0 * TURNED.0, depths / TURNED.1 * TURNED.1);
    for depth in (0..whole.1).step_by(TURNED.1) {
        for line in (0..whole.0).step_by(TURNED.0) {
            let mut block = [[0.0; TURNED.1]; TURNED.0];
            for (index, block) in block.iter_mut().enumerate() {
                let row = &all[(line + index) * stride + depth..][..TURNED.1];
                for (to, from) in block.iter_mut().zip(row) {
                    *to = from.widen();
                }
            }
            for index in 0..TURNED.1 {
                let row = &mut panel[(depth + index) * width + line..][..TURNED.0];
                for (to, block) in row.iter_mut().zip(&block) {
                    *to = block[index];
                }
            }
        }
    }
    for line in 0..lines {
        let done = if line < whole.0 { whole.1 } else { 0 };
        for (depth, from) in all[line * stride..][..depths].iter().enumerate().skip(done) {
            panel[depth * width + line] = from.widen();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_numbers_widen_exactly() {
        for bits in 0..=u16::MAX {
            let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            if half.is_nan() {
                assert!(half.widen().is_nan());
            } else {
                assert_eq!(half.widen().to_bits(), half.to_f32().to_bits());
            }
            if brain.is_nan() {
                assert!(brain.widen().is_nan());
            } else {
                assert_eq!(brain.widen().to_bits(), brain.to_f32().to_bits());
            }
        }
    }
}
