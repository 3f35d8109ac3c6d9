//! The KL divergence of two distributions over tokens.

/// KL(left || right) of the distributions with these logits, in nats.
pub(super) fn divergence(left: &[f32], right: &[f32]) -> f64 {
    let (left_norm, right_norm) = (log_sum_exp(left), log_sum_exp(right));
    left.iter()
        .zip(right)
        .map(|(&left, &right)| {
            let (left, right) = (f64::from(left) - left_norm, f64::from(right) - right_norm);
            left.exp() * (left - right)
        })
        .sum()
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    highest + logits.iter().map(|&logit| (f64::from(logit) - highest).exp()).sum::<f64>().ln()
}

pub(super) fn best(logits: &[f32]) -> Option<usize> {
    logits.iter().enumerate().max_by(|left, right| left.1.total_cmp(right.1)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_distributions_do_not_diverge_and_a_shift_of_all_logits_is_no_difference() {
        let logits = [0.5_f32, -1.0, 2.0];
        let shifted = logits.map(|logit| logit + 3.0);
        assert!(divergence(&logits, &logits) < 1e-12);
        assert!(divergence(&logits, &shifted) < 1e-6);
    }

    #[test]
    fn divergence_is_the_textbook_sum() {
        let left = [0.75_f32.ln(), 0.25_f32.ln()];
        let right = [0.5_f32.ln(), 0.5_f32.ln()];
        let expected = 0.75 * 1.5_f64.ln() + 0.25 * 0.5_f64.ln();
        assert!((divergence(&left, &right) - expected).abs() < 1e-6);
    }

    #[test]
    fn nan_logits_diverge() {
        assert!(divergence(&[f32::NAN, 0.0], &[0.0, 0.0]).is_nan());
    }
}
