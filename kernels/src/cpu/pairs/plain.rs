//! Numbers become words of two bf16 numbers, and rows of words become columns, by loops that the compiler vectorises.

use super::PairInstructions;
use crate::{cpu::vectorised, precision::nearest_bf16};

pub(super) fn neighbours(_: PairInstructions, words: &mut [u32], numbers: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            let (whole, last) = numbers.as_chunks::<2>();
            for (to, [low, high]) in words.iter_mut().zip(whole) {
                *to = word(*low, *high);
            }
            if let ([low], Some(to)) = (last, words.last_mut()) {
                *to = word(*low, 0.0);
            }
        },
    );
}

pub(super) fn rows(_: PairInstructions, words: &mut [u32], low: &[f32], high: Option<&[f32]>) {
    vectorised(
        #[inline(always)]
        || match high {
            Some(high) => {
                for ((to, low), high) in words.iter_mut().zip(low).zip(high) {
                    *to = word(*low, *high);
                }
            }
            None => words.iter_mut().zip(low).for_each(|(to, low)| *to = word(*low, 0.0)),
        },
    );
}

pub(super) fn turn(
    _: PairInstructions,
    to: &mut [u32],
    width: usize,
    from: &[u32],
    stride: usize,
    [count, length]: [usize; 2],
) {
    for (row, from) in from.chunks(stride.max(1)).take(count).enumerate() {
        for (column, word) in from[..length].iter().enumerate() {
            to[column * width + row] = *word;
        }
    }
}

#[inline(always)]
fn word(low: f32, high: f32) -> u32 {
    u32::from(nearest_bf16(low)) | u32::from(nearest_bf16(high)) << 16
}
