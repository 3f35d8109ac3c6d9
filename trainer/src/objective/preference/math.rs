//! Functions of the losses, without overflow and without cancellation.

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let grown = x.exp();
        grown / (1.0 + grown)
    }
}

/// `log sigmoid(x)`.
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// `log(1 - exp(x))` for `x < 0` (Mächler 2012, "Accurately computing log(1 - exp(-|a|))").
pub fn log_1_minus_exp(x: f64) -> f64 {
    if x > -std::f64::consts::LN_2 { (-x.exp_m1()).ln() } else { (-x.exp()).ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_argument_overflows_and_small_ones_keep_their_digits() {
        for x in [-1e4, -40.0, -1.0, 0.0, 1e-9, 1.0, 40.0, 1e4] {
            assert!((sigmoid(x) + sigmoid(-x) - 1.0).abs() < 1e-15, "{x}");
            assert!((log_sigmoid(x) - log_sigmoid(-x) - x).abs() <= 1e-15 * x.abs().max(1.0), "{x}");
        }
        assert_eq!((sigmoid(-1e4), log_sigmoid(-1e4), log_sigmoid(1e4)), (0.0, -1e4, 0.0));
        // 1 - exp(-1e-12) is 1e-12 to 12 digits; computed as it is written, it has 4.
        assert!((log_1_minus_exp(-1e-12) - 1e-12_f64.ln()).abs() < 1e-11);
        assert!((log_1_minus_exp(-50.0) + (-50.0_f64).exp()).abs() < 1e-30);
    }
}
