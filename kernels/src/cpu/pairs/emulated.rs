//! What `TILELOADD`, `TDPBF16PS` and `TILESTORED` do to a block of tiles, in plain code, so that all around them is tested on any
//! CPU. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, operation of `TDPBF16PS`.

use super::amx::{COLUMNS, Operands, PAIRS, ROWS};

/// # Safety
/// All words and numbers that the operands name are there.
pub(super) unsafe fn block(operands: Operands) {
    let Operands { left, left_row, left_step, right, steps, out, out_row, add } = operands;
    let halves = |word: u32| [word << 16, word & 0xffff_0000].map(f32::from_bits).map(without_subnormals);
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            // SAFETY: a row and a column of the block, by the caller's promise.
            let place = unsafe { &mut *out.byte_add(row * out_row).add(column) };
            let mut sum = if add { *place } else { 0.0 };
            for step in 0..steps {
                let mut of_halves = [0.0; 2];
                for pair in 0..PAIRS {
                    // SAFETY: one of the rows, pairs and columns of the operands, by the caller's promise.
                    let (left, right) = unsafe {
                        let left = left.byte_add(row * left_row + step * left_step).add(pair);
                        (halves(*left), halves(*right.add((step * PAIRS + pair) * COLUMNS + column)))
                    };
                    for half in 0..2 {
                        of_halves[half] = without_subnormals(left[half].mul_add(right[half], of_halves[half]));
                    }
                }
                sum = without_subnormals(without_subnormals(sum) + without_subnormals(of_halves[0] + of_halves[1]));
            }
            *place = sum;
        }
    }
}

/// The instruction takes them for zero, and gives zero for them.
fn without_subnormals(number: f32) -> f32 {
    if number.is_subnormal() { 0.0_f32.copysign(number) } else { number }
}
