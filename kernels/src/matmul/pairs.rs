//! Packs numbers in bf16, in pairs of depths. Where the number of depths is odd, the last pair has a zero; behind it come as many
//! pairs of zeros as instructions need.

use super::{Elements, Matrix, pack::Widen};
use crate::cpu::{MOST_PAIR_COLUMNS, PairInstructions, pair_neighbours, pair_rows, turn_words, vectorised};
use burn::tensor::bf16;
use std::ops::Range;

/// Lines, and numbers of each, that are rounded at once before they are turned.
const LINES: usize = 16;
const ROUNDED: usize = 256;

/// Fills `packed` with the panels of rows of a matrix, each `width` rows wide, and zeros where rows end.
pub(super) fn pack(
    instructions: PairInstructions,
    packed: &mut [u32],
    width: usize,
    matrix: Matrix,
    rows: Range<usize>,
    depths: Range<usize>,
) {
    let panel_len = width * instructions.words(depths.len());
    if panel_len == 0 {
        return;
    }
    let given = width * depths.len().div_ceil(2);
    for (panel, first) in packed.chunks_exact_mut(panel_len).zip(rows.clone().step_by(width)) {
        let lines = first..(first + width).min(rows.end);
        let (panel, empty) = panel.split_at_mut(given);
        empty.fill(0);
        if lines.len() < width {
            panel.fill(0);
        }
        match matrix.column_stride {
            1 => pack_lines(instructions, panel, width, matrix, lines, depths.clone()),
            _ => pack_depths(instructions, panel, width, matrix, lines, depths.clone()),
        }
    }
}

/// Rounds rows whose depth is contiguous to words behind each other, and fills what is left with zeros.
pub(super) fn round_rows(
    instructions: PairInstructions,
    words: &mut [u32],
    all: &[f32],
    stride: usize,
    [rows, depth]: [usize; 2],
) {
    let count = instructions.words(depth);
    let (given, empty) = words.split_at_mut(rows * count);
    empty.fill(0);
    for (row, words) in given.chunks_exact_mut(count.max(1)).enumerate() {
        let (words, empty) = words.split_at_mut(depth.div_ceil(2));
        empty.fill(0);
        pair_neighbours(instructions, words, &all[row * stride..][..depth]);
    }
}

/// A panel of lines that are contiguous over their depth.
fn pack_lines(
    instructions: PairInstructions,
    panel: &mut [u32],
    width: usize,
    matrix: Matrix,
    lines: Range<usize>,
    depths: Range<usize>,
) {
    let mut words = [0; LINES * ROUNDED / 2];
    let mut numbers = [0.0; ROUNDED];
    for line in lines.clone().step_by(LINES) {
        let together = LINES.min(lines.end - line);
        for depth in depths.clone().step_by(ROUNDED) {
            let long = ROUNDED.min(depths.end - depth);
            for (index, words) in words.chunks_exact_mut(ROUNDED / 2).take(together).enumerate() {
                let words = &mut words[..long.div_ceil(2)];
                let start = (line + index) * matrix.row_stride + depth;
                match matrix.elements {
                    Elements::F32(all) => pair_neighbours(instructions, words, &all[start..][..long]),
                    Elements::Bf16(all) => pair_stored(words, &all[start..][..long]),
                    other => {
                        widen(other, start, &mut numbers[..long]);
                        pair_neighbours(instructions, words, &numbers[..long]);
                    }
                }
            }
            let to = &mut panel[(depth - depths.start) / 2 * width + line - lines.start..];
            turn_words(instructions, to, width, &words, ROUNDED / 2, [together, long.div_ceil(2)]);
        }
    }
}

/// A panel of lines whose numbers at a depth are contiguous, or lie anywhere.
fn pack_depths(
    instructions: PairInstructions,
    panel: &mut [u32],
    width: usize,
    matrix: Matrix,
    lines: Range<usize>,
    depths: Range<usize>,
) {
    let mut rows = [[0.0; MOST_PAIR_COLUMNS]; 2];
    for (to, depth) in panel.chunks_exact_mut(width).zip(depths.clone().step_by(2)) {
        let to = &mut to[..lines.len()];
        let has_second = depth + 1 < depths.end;
        let start = |depth: usize| depth * matrix.column_stride + lines.start * matrix.row_stride;
        match (matrix.elements, matrix.row_stride) {
            (Elements::F32(all), 1) => {
                let row = |depth: usize| &all[start(depth)..][..lines.len()];
                pair_rows(instructions, to, row(depth), has_second.then(|| row(depth + 1)));
                continue;
            }
            (Elements::Bf16(all), 1) => {
                let row = |depth: usize| &all[start(depth)..][..lines.len()];
                pair_stored_rows(to, row(depth), has_second.then(|| row(depth + 1)));
                continue;
            }
            _ => {}
        }
        for (row, depth) in rows.iter_mut().zip(depth..depth + 1 + usize::from(has_second)) {
            let row = &mut row[..lines.len()];
            match matrix.row_stride {
                1 => widen(matrix.elements, start(depth), row),
                stride => row.iter_mut().enumerate().for_each(|(line, to)| {
                    widen(matrix.elements, start(depth) + line * stride, std::slice::from_mut(to));
                }),
            }
        }
        let second = has_second.then(|| &rows[1][..lines.len()]);
        pair_rows(instructions, to, &rows[0][..lines.len()], second);
    }
}

/// Stored numbers, as they are.
fn pair_stored(words: &mut [u32], numbers: &[bf16]) {
    vectorised(
        #[inline(always)]
        || {
            let (whole, last) = numbers.as_chunks::<2>();
            for (to, [low, high]) in words.iter_mut().zip(whole) {
                *to = u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16;
            }
            if let ([low], Some(to)) = (last, words.last_mut()) {
                *to = u32::from(low.to_bits());
            }
        },
    );
}

/// Stored numbers of two rows, as they are.
fn pair_stored_rows(words: &mut [u32], low: &[bf16], high: Option<&[bf16]>) {
    vectorised(
        #[inline(always)]
        || match high {
            Some(high) => {
                for ((to, low), high) in words.iter_mut().zip(low).zip(high) {
                    *to = u32::from(low.to_bits()) | u32::from(high.to_bits()) << 16;
                }
            }
            None => words.iter_mut().zip(low).for_each(|(to, low)| *to = u32::from(low.to_bits())),
        },
    );
}

/// Numbers behind each other from `start` on, in f32.
fn widen(elements: Elements, start: usize, numbers: &mut [f32]) {
    fn all<T: Widen>(numbers: &mut [f32], stored: &[T]) {
        vectorised(
            #[inline(always)]
            || numbers.iter_mut().zip(stored).for_each(|(to, from)| *to = from.widen()),
        );
    }
    match elements {
        Elements::F32(stored) => all(numbers, &stored[start..]),
        Elements::F16(stored) => all(numbers, &stored[start..]),
        Elements::Bf16(stored) => all(numbers, &stored[start..]),
        Elements::Quantized(weight, first) => vectorised(
            #[inline(always)]
            || weight.widen(first + start, numbers),
        ),
    }
}
