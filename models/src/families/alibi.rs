//! ALiBi: the slopes of linear attention biases (Press et al. 2021, arXiv:2108.12409), as each reference computes them.

/// `2^(-8 k / n)` for `k` from 1 to `n` where the number of heads `n` is a power of two. Otherwise the slopes of the
/// power of two below `n`, then every second slope of the power above.
pub(super) fn slopes(heads: usize) -> Vec<f32> {
    let below = 1 << heads.ilog2();
    let base = |power: usize| 2.0_f64.powf(-8.0 / power as f64);
    // The reference raises an f32 base to integer powers.
    let raised = |base: f64, exponent: usize| (base as f32).powi(exponent as i32);
    let first = (1..=below).map(|k| raised(base(below), k));
    let rest = (0..heads - below).map(|k| raised(base(2 * below), 2 * k + 1));
    first.chain(rest).collect()
}

/// `2^(-8 k / n)` for the power of two `n` at or above the number of heads: the even `k` first, then the odd ones, cut
/// to the number of heads.
pub(super) fn slopes_of_mpt(heads: usize) -> Vec<f32> {
    let above = heads.next_power_of_two();
    let slope = |k: usize| 1.0 / (2.0_f32).powf(k as f32 * (8.0 / above as f32));
    let all: Vec<f32> = (1..=above).map(slope).collect();
    if above == heads {
        return all;
    }
    all.iter().skip(1).step_by(2).chain(all.iter().step_by(2)).copied().take(heads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f32], expected: &[f32]) -> bool {
        found.len() == expected.len() && found.iter().zip(expected).all(|(left, right)| (left - right).abs() < 1e-7)
    }

    #[test]
    fn powers_of_two_halve() {
        assert!(near(&slopes(8), &[0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]));
        assert!(near(&slopes_of_mpt(8), &slopes(8)));
        assert!(near(&slopes(1), &[0.00390625]));
    }

    #[test]
    fn other_numbers_take_from_the_power_above() {
        assert!(near(&slopes(6), &[0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]));
        assert!(near(&slopes_of_mpt(6), &[0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]));
        assert!(near(&slopes(3), &[0.0625, 0.00390625, 0.25]));
    }
}
