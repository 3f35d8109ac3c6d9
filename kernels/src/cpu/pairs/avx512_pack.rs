//! Numbers become words of two bf16 numbers, and rows of words become columns, with AVX512_BF16. Numbers too small for f32's
//! normal form become zero, as the product takes them.

use super::PairInstructions;
use std::arch::x86_64::{
    __m256bh, __m256i, __m512bh, __m512i, __mmask16, _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh,
    _mm512_mask_storeu_epi32, _mm512_maskz_loadu_epi32, _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};
use std::mem::transmute;

/// Words of a register.
const LANES: usize = 16;
/// The parts of a register that one number of [`_mm512_shuffle_i32x4`] takes: the even ones, and the odd ones.
const EVEN: i32 = 0x88;
const ODD: i32 = 0xdd;

pub(super) fn neighbours(_: PairInstructions, words: &mut [u32], numbers: &[f32]) {
    assert_eq!(words.len(), numbers.len().div_ceil(2));
    // SAFETY: the instructions are there, by the first argument; the lengths are checked above.
    unsafe { round_neighbours(words, numbers) }
}

pub(super) fn rows(_: PairInstructions, words: &mut [u32], low: &[f32], high: Option<&[f32]>) {
    assert!(low.len() == words.len() && high.is_none_or(|high| high.len() == words.len()));
    // SAFETY: the instructions are there, by the first argument; the lengths are checked above.
    unsafe { round_rows(words, low, high) }
}

pub(super) fn turn(
    _: PairInstructions,
    to: &mut [u32],
    width: usize,
    from: &[u32],
    stride: usize,
    [count, length]: [usize; 2],
) {
    assert!(count <= width && to.len() >= (length - 1) * width + count);
    assert!(from.len() >= (count - 1) * stride + length);
    // SAFETY: the instructions are there, by the first argument. Row `count - 1` ends in `from`, and row `length - 1` of
    // `count` words in `to`, by the checks above.
    unsafe { turn_blocks(to.as_mut_ptr(), width, from.as_ptr(), stride, count, length) }
}

/// As many of the first lanes.
fn first(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}

/// # Safety
/// `words` is half as long as `numbers`, rounded up.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn round_neighbours(words: &mut [u32], numbers: &[f32]) {
    for (index, words) in words.chunks_mut(LANES).enumerate() {
        let numbers = &numbers[2 * index * LANES..];
        let (low, high) = (numbers.len().min(LANES), numbers.len().min(2 * LANES).saturating_sub(LANES));
        // SAFETY: masked lanes are not touched: `low` and `high` numbers are there, and the words they fill. Words and
        // pairs of 16-bit numbers have no invalid values.
        unsafe {
            let low = _mm512_maskz_loadu_ps(first(low), numbers.as_ptr());
            let high = _mm512_maskz_loadu_ps(first(high), numbers.as_ptr().wrapping_add(LANES));
            let pairs = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_mask_storeu_epi32(words.as_mut_ptr().cast(), first(words.len()), pairs);
        }
    }
}

/// # Safety
/// The rows are as long as `words`.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn round_rows(words: &mut [u32], low: &[f32], high: Option<&[f32]>) {
    for (index, words) in words.chunks_mut(LANES).enumerate() {
        let (at, mask) = (index * LANES, first(words.len()));
        // SAFETY: masked lanes are not touched, and the others are inside the rows and the words. Halves of words have no
        // invalid values.
        unsafe {
            let half = |row: &[f32]| {
                let numbers = _mm512_maskz_loadu_ps(mask, row.as_ptr().add(at));
                _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(numbers)))
            };
            let low = half(low);
            let pairs = high.map_or(low, |high| _mm512_or_si512(low, _mm512_slli_epi32::<16>(half(high))));
            _mm512_mask_storeu_epi32(words.as_mut_ptr().cast(), mask, pairs);
        }
    }
}

/// # Safety
/// `length` words of `count` rows that are `stride` apart can be read, and `count` words of `length` rows that are `width`
/// apart be written.
#[target_feature(enable = "avx512f")]
unsafe fn turn_blocks(to: *mut u32, width: usize, from: *const u32, stride: usize, count: usize, length: usize) {
    for column in (0..length).step_by(LANES) {
        let columns = LANES.min(length - column);
        for row in (0..count).step_by(LANES) {
            let rows = LANES.min(count - row);
            let mut block = [_mm512_setzero_si512(); LANES];
            for (index, block) in block.iter_mut().take(rows).enumerate() {
                // SAFETY: row `row + index` is there, and so are `columns` of its words from `column` on.
                *block = unsafe {
                    _mm512_maskz_loadu_epi32(first(columns), from.add((row + index) * stride + column).cast())
                };
            }
            for (index, block) in turned(block).iter().take(columns).enumerate() {
                // SAFETY: row `column + index` is there, and so are `rows` of its words from `row` on.
                unsafe {
                    let place = to.add((column + index) * width + row);
                    _mm512_mask_storeu_epi32(place.cast(), first(rows), *block);
                }
            }
        }
    }
}

/// The transpose of a block: pairs of rows, then fours, then the quarters of registers.
#[target_feature(enable = "avx512f")]
#[inline]
fn turned(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut twos = rows;
    for at in (0..LANES).step_by(2) {
        twos[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        twos[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Quarter `k` of `fours[4 i + j]` is column `4 k + j` of the rows `4 i` to `4 i + 3`.
    let mut fours = twos;
    for at in (0..LANES).step_by(4) {
        for half in 0..2 {
            fours[at + 2 * half] = _mm512_unpacklo_epi64(twos[at + half], twos[at + 2 + half]);
            fours[at + 2 * half + 1] = _mm512_unpackhi_epi64(twos[at + half], twos[at + 2 + half]);
        }
    }
    let mut columns = fours;
    for at in 0..4 {
        let even = [0, 8].map(|first| _mm512_shuffle_i32x4::<EVEN>(fours[first + at], fours[first + 4 + at]));
        let odd = [0, 8].map(|first| _mm512_shuffle_i32x4::<ODD>(fours[first + at], fours[first + 4 + at]));
        columns[at] = _mm512_shuffle_i32x4::<EVEN>(even[0], even[1]);
        columns[at + 8] = _mm512_shuffle_i32x4::<ODD>(even[0], even[1]);
        columns[at + 4] = _mm512_shuffle_i32x4::<EVEN>(odd[0], odd[1]);
        columns[at + 12] = _mm512_shuffle_i32x4::<ODD>(odd[0], odd[1]);
    }
    columns
}
