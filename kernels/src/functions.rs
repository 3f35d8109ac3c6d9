//! `exp`, `ln`, `tanh`, `erf` and `sigmoid` in f32 without branches or tables, so that loops over them are vectorised.
//!
//! Coefficients and ranges after Cephes (Moshier 1984-1992, `expf`, `logf`, `tanhf`, `ndtrf`). The errors are those the tests measure.
//! NaN stays NaN, infinities go to their limits.

/// `e^x`, within one unit in the last place; zero below `-86.6` (`e^x < 2.5e-38`).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -86.6;
    const HIGHEST: f32 = 88.722_84;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;

    // Comparisons, not `clamp` or `max`: these would turn NaN into a number.
    let bounded = if x < LOWEST { LOWEST } else { x };
    let bounded = if bounded > HIGHEST { HIGHEST } else { bounded };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let r = bounded - power * LN2_HIGH - power * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    p = p * (r * r) + r + 1.0;
    // 2^(power - 1), then doubled: 2^128 itself has no representation.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(126) << 23;
    let y = p * f32::from_bits(exponent) * 2.0;
    let y = if x < LOWEST { 0.0 } else { y };
    if x > HIGHEST { f32::INFINITY } else { y }
}

/// The natural logarithm, within one unit in the last place, of a number that is not subnormal. NaN for numbers that are not
/// above zero.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;

    let bits = x.to_bits();
    let power = (bits >> 23) as i32 - 126;
    // x = m 2^power with m in 0.5..1, then in sqrt(0.5)..sqrt(2).
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    let is_low = m < std::f32::consts::FRAC_1_SQRT_2;
    let power = if is_low { power - 1 } else { power } as f32;
    let r = if is_low { m + m } else { m } - 1.0;
    let square = r * r;
    let mut p = 7.037_683_6e-2;
    p = p * r - 1.151_461e-1;
    p = p * r + 1.167_699_9e-1;
    p = p * r - 1.242_014_1e-1;
    p = p * r + 1.424_932_3e-1;
    p = p * r - 1.666_805_8e-1;
    p = p * r + 2.000_071_5e-1;
    p = p * r - 2.499_999_4e-1;
    p = p * r + 3.333_333e-1;
    let y = p * r * square + power * LN2_LOW - 0.5 * square;
    let y = r + y + power * LN2_HIGH;
    let y = if x == f32::INFINITY { x } else { y };
    if x > 0.0 { y } else { f32::NAN }
}

/// `1 / (1 + e^-x)`, within 2.5 units in the last place.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh(x)`, within 1.5 units in the last place.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * square + 2.063_909e-2;
    p = p * square - 5.373_971_5e-2;
    p = p * square + 1.333_144_2e-1;
    p = p * square - 3.333_328e-1;
    let near = p * square * x + x;
    let far = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { near } else { far }
}

/// The error function, within 3e-7 of it.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let size = x.abs();
    let square = x * x;
    let mut p = 7.853_861_4e-5;
    p = p * square - 8.010_194e-4;
    p = p * square + 5.188_327_7e-3;
    p = p * square - 2.685_381_2e-2;
    p = p * square + 1.128_358_5e-1;
    p = p * square - 3.761_262_6e-1;
    p = p * square + std::f32::consts::FRAC_2_SQRT_PI;
    let near = p * x;

    let q = 1.0 / size;
    let y = q * q;
    let mut middle = 2.326_82e-2;
    middle = middle * y - 1.387_039_4e-1;
    middle = middle * y + 3.687_424_7e-1;
    middle = middle * y - 5.824_733e-1;
    middle = middle * y + 6.210_004_6e-1;
    middle = middle * y - 4.944_515_3e-1;
    middle = middle * y + 3.404_88e-1;
    middle = middle * y - 2.741_127e-1;
    middle = middle * y + 5.638_259_4e-1;
    let mut outer = -1.047_766_4e1;
    outer = outer * y + 1.297_72e1;
    outer = outer * y - 7.495_518_7;
    outer = outer * y + 2.921_019;
    outer = outer * y - 1.015_265_3;
    outer = outer * y + 4.218_463_4e-1;
    outer = outer * y - 2.820_767_4e-1;
    outer = outer * y + 5.641_895e-1;
    let complement = exp(-square) * q * if size < 2.0 { middle } else { outer };
    let far = (1.0 - complement).copysign(x);
    if size < 1.0 { near } else { far }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance to the f64 value in units of the last place of the f32 nearest to it.
    fn ulps(value: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        let unit = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
        (f64::from(value) - exact).abs() / unit
    }

    fn worst(low: f32, high: f32, error: impl Fn(f32) -> f64) -> (f64, f32) {
        let steps = 2_000_000;
        (0..=steps)
            .map(|i| low + (high - low) * (i as f32 / steps as f32))
            .map(|x| (error(x), x))
            .fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a })
    }

    #[test]
    fn exp_is_within_one_ulp() {
        let (error, at) = worst(-86.6, 88.72, |x| ulps(exp(x), f64::from(x).exp()));
        assert!(error < 1.0, "{error} at {at}");
        let (error, at) = worst(-1.0, 1.0, |x| ulps(exp(x), f64::from(x).exp()));
        assert!(error < 1.0, "{error} at {at}");
    }

    #[test]
    fn ln_is_within_one_ulp() {
        for (low, high) in [(1e-37, 1e-30), (1e-3, 0.7), (0.7, 1.5), (1.0, 100.0), (1e10, 1e38)] {
            let (error, at) = worst(low, high, |x| ulps(ln(x), f64::from(x).ln()));
            assert!(error < 1.0, "{error} at {at}");
        }
        assert_eq!((ln(1.0), ln(f32::INFINITY)), (0.0, f32::INFINITY));
        assert!(ln(f32::NAN).is_nan() && ln(0.0).is_nan() && ln(-1.0).is_nan());
    }

    #[test]
    fn exp_keeps_the_extremes() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_one_and_a_half_ulp() {
        for (low, high) in [(-0.7, 0.7), (-20.0, 20.0), (1e-6, 1e-3)] {
            let (error, at) = worst(low, high, |x| if x == 0.0 { 0.0 } else { ulps(tanh(x), f64::from(x).tanh()) });
            assert!(error < 1.5, "{error} at {at}");
        }
        assert_eq!((tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)), (1.0, -1.0));
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoid_reaches_its_limits() {
        let (error, at) = worst(-80.0, 80.0, |x| ulps(sigmoid(x), 1.0 / (1.0 + (-f64::from(x)).exp())));
        assert!(error < 2.5, "{error} at {at}");
        assert_eq!((sigmoid(f32::INFINITY), sigmoid(f32::NEG_INFINITY)), (1.0, 0.0));
        assert!(sigmoid(f32::NAN).is_nan());
    }

    /// Integral of the Gaussian by Simpson's rule: no error function is at hand in f64.
    fn exact_erf(x: f64) -> f64 {
        let steps = 2000;
        let width = x / f64::from(steps);
        let f = |t: f64| (-t * t).exp();
        let inner: f64 = (1..steps).map(|i| f(width * f64::from(i)) * if i % 2 == 0 { 2.0 } else { 4.0 }).sum();
        (f(0.0) + inner + f(x)) * width / 3.0 * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn erf_is_within_3e_7() {
        for i in -600..=600 {
            let x = i as f32 / 100.0;
            let error = (f64::from(erf(x)) - exact_erf(f64::from(x))).abs();
            assert!(error < 3e-7, "{error} at {x}");
        }
        assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY), erf(0.0)), (1.0, -1.0, 0.0));
        assert!(erf(f32::NAN).is_nan());
    }
}
