//! The numbers that codes stand for, and which code is nearest to a number.
//!
//! NF4 is the table of QLoRA (Dettmers et al. 2023, arXiv:2305.14314, appendix E), FP4 has a sign, two bits of exponent and one
//! of fraction, and the 8-bit map is the signed dynamic tree of Dettmers et al. 2021 (arXiv:2110.02861). All are bit for bit those of
//! bitsandbytes, and so is the choice between two neighbours: its 4-bit codes compare with midpoints, its 8-bit codes look up one of 65536
//! equal steps, which near a midpoint is not always the nearest number.

use std::sync::{Arc, LazyLock};

/// Sixteen numbers, and how a number in `-1..=1` becomes the code of one.
pub(super) struct FourBitBook {
    pub values: [f32; 16],
    /// Both numbers of a byte, the high half first.
    pub pairs: [[f32; 2]; 256],
    bounds: [f32; 15],
    order: [u8; 16],
}

const NF4_VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];
/// By bit pattern; they are twelfths, so that the largest is one.
const FP4_TWELFTHS: [f32; 16] =
    [0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0, 0.0, -0.0625, -8.0, -12.0, -4.0, -6.0, -2.0, -3.0];

pub(super) static NF4: FourBitBook =
    FourBitBook::new(NF4_VALUES, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
pub(super) static FP4: FourBitBook =
    FourBitBook::new(twelfths(FP4_TWELFTHS), [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3]);

const fn twelfths(mut values: [f32; 16]) -> [f32; 16] {
    let mut code = 0;
    while code < 16 {
        values[code] /= 12.0;
        code += 1;
    }
    values
}

impl FourBitBook {
    /// `order` lists the codes by their numbers.
    const fn new(values: [f32; 16], order: [u8; 16]) -> Self {
        let mut pairs = [[0.0; 2]; 256];
        let mut byte = 0;
        while byte < 256 {
            pairs[byte] = [values[byte >> 4], values[byte & 15]];
            byte += 1;
        }
        let mut bounds = [0.0; 15];
        let mut place = 0;
        while place < 15 {
            bounds[place] = (values[order[place] as usize] + values[order[place + 1] as usize]) / 2.0;
            place += 1;
        }
        Self { values, pairs, bounds, order }
    }

    /// The code of the number nearest to `value`, the smaller one from the middle between two.
    #[inline(always)]
    pub fn code(&self, value: f32) -> u8 {
        let mut place = 0;
        for bound in &self.bounds {
            place += u32::from(*bound < value);
        }
        self.order[place as usize]
    }
}

/// The 256 numbers of 8-bit codes, in order.
pub(super) static DYNAMIC: LazyLock<Arc<[f32; 256]>> = LazyLock::new(|| Arc::new(dynamic_map()));

/// Steps of [`DYNAMIC_CODES`].
const STEPS: usize = 1 << 16;

/// The 8-bit code of each of 65536 equal steps from -1 to 1.
static DYNAMIC_CODES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let values = &**DYNAMIC;
    let bounds: Vec<f32> = values.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect();
    let value = |step: usize| -1.0 + (2.0 * step as f32) / (STEPS - 1) as f32;
    (0..STEPS).map(|step| bounds.partition_point(|bound| *bound < value(step)) as u8).collect()
});

/// The code of `value`, for numbers in `-1..=1`.
#[derive(Clone, Copy)]
pub(super) struct DynamicCodes(&'static [u8]);

impl DynamicCodes {
    pub fn new() -> Self {
        Self(&DYNAMIC_CODES)
    }

    pub fn code(self, value: f32) -> u8 {
        let step = (value.clamp(-1.0, 1.0) + 1.0) * 0.5 * (STEPS - 1) as f32 + 0.5;
        self.0[step as usize]
    }
}

/// Seven decades; each next one has twice as many numbers, evenly spaced from 0.1 to 1 of it. Zero and one besides.
fn dynamic_map() -> [f32; 256] {
    let mut values = vec![0.0, 1.0];
    for decade in 0..7 {
        let scale = 10f64.powi(decade - 6) as f32;
        let edges = evenly_spaced(0.1, 1.0, (1 << decade) + 1);
        for edge in edges.windows(2) {
            let mean = (edge[0] + edge[1]) / 2.0;
            values.extend([scale * mean, -scale * mean]);
        }
    }
    values.sort_by(f32::total_cmp);
    let mut map = [0.0; 256];
    map.copy_from_slice(&values);
    map
}

/// As `torch.linspace`: from both ends to the middle, each number rounded once.
fn evenly_spaced(first: f32, last: f32, count: usize) -> Vec<f32> {
    let step = (last - first) / (count - 1) as f32;
    let from_first = |index: usize| step.mul_add(index as f32, first);
    let from_last = |index: usize| (-step).mul_add((count - 1 - index) as f32, last);
    (0..count).map(|index| if index < count / 2 { from_first(index) } else { from_last(index) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_book_has_its_own_code() {
        for book in [&NF4, &FP4] {
            for value in book.values {
                assert_eq!(book.values[usize::from(book.code(value))], value);
            }
            assert_eq!(book.values[usize::from(book.code(-2.0))], -1.0);
            assert_eq!(book.values[usize::from(book.code(2.0))], 1.0);
        }
    }

    #[test]
    fn every_number_of_the_dynamic_map_is_near_its_code() {
        let codes = DynamicCodes::new();
        for value in DYNAMIC.iter() {
            let found = DYNAMIC[usize::from(codes.code(*value))];
            assert!((found - value).abs() <= 2.0 / 65535.0, "{value} becomes {found}");
        }
        assert!(DYNAMIC.is_sorted());
    }
}
