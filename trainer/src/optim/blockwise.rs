//! Optimiser state in 8 bits, block by block: [`DynamicMap`] (Dettmers et al. 2021, arXiv:2110.02861). A block holds
//! its largest absolute value in f32, and for each value one byte: the index of one of 256 fractions of that maximum.
//! The fractions are those of bitsandbytes' `create_dynamic_map`, dense near zero.
//!
//! A value is rounded to the nearest fraction, to the lower one in a tie, as in bitsandbytes' default backend. Its CPU
//! backend uses a lookup table of 65536 steps instead, which contains no fraction below 1e-5. Its CUDA kernel rounds as
//! here, but keeps the sign of a mean that rounds to zero.

use std::sync::LazyLock;

/// Values in a block.
pub const BLOCK: usize = 256;

/// Number of blocks for `elements` values; the last block may be shorter.
pub(super) fn blocks(elements: usize) -> usize {
    elements.div_ceil(BLOCK)
}

/// A table of the 256 fractions that codes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynamicMap {
    /// From nearly -1 to 1.
    Signed,
    /// From 0 to 1.
    Unsigned,
}

static SIGNED: LazyLock<[f32; 256]> = LazyLock::new(|| shares(true));
static UNSIGNED: LazyLock<[f32; 256]> = LazyLock::new(|| shares(false));

impl DynamicMap {
    /// The fractions, in rising order.
    pub fn shares(self) -> &'static [f32; 256] {
        match self {
            Self::Signed => &SIGNED,
            Self::Unsigned => &UNSIGNED,
        }
    }

    /// Writes the values that `codes` stand for into `values`; `absmax` is the block's largest absolute value.
    pub fn widen(self, codes: &[u8], absmax: f32, values: &mut [f32]) {
        let shares = self.shares();
        for (value, code) in values.iter_mut().zip(codes) {
            *value = shares[usize::from(*code)] * absmax;
        }
    }

    /// Rounds a block into `codes`; returns its largest absolute value.
    pub fn narrow(self, values: &[f32], codes: &mut [u8]) -> f32 {
        let absmax = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        if absmax == 0.0 {
            codes.fill(0);
            return absmax;
        }
        let shares = self.shares();
        let factor = 1.0 / absmax;
        for (code, value) in codes.iter_mut().zip(values) {
            *code = nearest(shares, (value * factor).clamp(-1.0, 1.0));
        }
        absmax
    }
}

/// The index of the fraction nearest to `value`.
fn nearest(shares: &[f32; 256], value: f32) -> u8 {
    let above = shares.partition_point(|share| *share < value).min(255);
    let below = above.saturating_sub(1);
    let index = if value - shares[below] <= shares[above] - value { below } else { above };
    index as u8
}

/// Seven powers of ten, each divided into twice as many parts as the one below it, then 0 and 1.
fn shares(signed: bool) -> [f32; 256] {
    let mut found = vec![0.0, 1.0];
    for exponent in 0..7_i32 {
        let parts = if signed { 1 << exponent } else { 2 << exponent };
        let power = 10_f64.powi(exponent - 6) as f32;
        let bounds = evenly(parts + 1);
        for pair in bounds.windows(2) {
            let share = power * ((pair[0] + pair[1]) / 2.0);
            found.push(share);
            if signed {
                found.push(-share);
            }
        }
    }
    found.sort_by(f32::total_cmp);
    std::array::from_fn(|index| found[index])
}

/// `count` numbers from 0.1 to 1, computed as `torch.linspace` does: from both ends to the middle, each rounded once.
fn evenly(count: usize) -> Vec<f32> {
    let (start, end) = (0.1_f32, 1.0_f32);
    let step = (end - start) / (count - 1) as f32;
    let number = |index: usize| {
        if index < count / 2 {
            step.mul_add(index as f32, start)
        } else {
            (-step).mul_add((count - 1 - index) as f32, end)
        }
    };
    (0..count).map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_rise_and_hold_zero_and_one() {
        for map in [DynamicMap::Signed, DynamicMap::Unsigned] {
            let shares = map.shares();
            assert!(shares.is_sorted() && shares.contains(&0.0) && shares.contains(&1.0), "{map:?}");
        }
    }

    #[test]
    fn rounding_takes_the_nearest_of_all_shares() {
        for map in [DynamicMap::Signed, DynamicMap::Unsigned] {
            for step in 0..20_000 {
                let sign = if map == DynamicMap::Signed && step % 2 == 0 { -1.0 } else { 1.0 };
                let value = sign * (-(step as f32) / 1400.0).exp();
                let shares = map.shares();
                let apart = |index: usize| (shares[index] - value).abs();
                let nearest_of_all =
                    (0..256).fold(0, |best, index| if apart(index) < apart(best) { index } else { best });
                assert_eq!(usize::from(nearest(shares, value)), nearest_of_all, "{value}");
            }
        }
    }

    #[test]
    fn what_is_a_share_of_the_largest_comes_back_exactly() {
        for map in [DynamicMap::Signed, DynamicMap::Unsigned] {
            let values: Vec<f32> = map.shares().iter().map(|share| share * 8.0).collect();
            let (mut codes, mut back) = ([0; BLOCK], [0.0; BLOCK]);
            let absmax = map.narrow(&values, &mut codes);
            map.widen(&codes, absmax, &mut back);
            assert_eq!((absmax, back.as_slice()), (8.0, values.as_slice()));
        }
    }

    #[test]
    fn a_block_of_zeros_comes_back() {
        let (mut codes, mut back) = ([9; 5], [1.0; 5]);
        let absmax = DynamicMap::Signed.narrow(&[0.0; 5], &mut codes);
        DynamicMap::Signed.widen(&codes, absmax, &mut back);
        assert_eq!((absmax, back), (0.0, [0.0; 5]));
    }
}
