//! A distribution over a vocabulary as its likeliest tokens and the probability of all others: [`likeliest`].

use std::cmp::Ordering;

/// The likeliest tokens of one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Likeliest {
    /// Their ids, the likeliest first; the smaller id first where two are equally likely.
    pub ids: Vec<u32>,
    /// Their log-probabilities.
    pub log_probabilities: Vec<f32>,
    /// The logarithm of the probability of all other tokens; absent where there are none.
    pub others: Option<f32>,
}

/// The `count` likeliest tokens of `softmax(logits / temperature)`.
pub fn likeliest(logits: &[f32], temperature: f64, count: usize) -> Likeliest {
    let count = count.min(logits.len());
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    let by_logit =
        |a: &u32, b: &u32| -> Ordering { logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)) };
    if count < ids.len() {
        ids.select_nth_unstable_by(count, by_logit);
    }
    let (first, rest) = ids.split_at_mut(count);
    first.sort_unstable_by(by_logit);
    // Sums go by id, so that they do not depend on how the rest was ordered.
    rest.sort_unstable();
    let cold = |id: &u32| f64::from(logits[*id as usize]) / temperature;
    let all = log_sum_exp(&(0..logits.len() as u32).map(|id| cold(&id)).collect::<Vec<_>>());
    let others: Vec<f64> = rest.iter().map(cold).collect();
    Likeliest {
        log_probabilities: first.iter().map(|id| (cold(id) - all) as f32).collect(),
        others: (!others.is_empty()).then(|| (log_sum_exp(&others) - all) as f32),
        ids: first.to_vec(),
    }
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    largest + values.iter().map(|value| (value - largest).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_and_the_rest_is_one_number() {
        // Probabilities 1/2, 1/4, 1/8, 1/8.
        let logits = [2f32.ln(), 8f32.ln(), 2f32.ln(), 4f32.ln()];
        let near = |found: f32, expected: f32| assert!((found.exp() - expected).abs() < 1e-6, "{found} {expected}");
        let found = likeliest(&logits, 1.0, 2);
        assert_eq!(found.ids, [1, 3]);
        near(found.log_probabilities[0], 0.5);
        near(found.log_probabilities[1], 0.25);
        near(found.others.unwrap(), 0.25);
        // Of equals the smaller id.
        assert_eq!(likeliest(&logits, 1.0, 3).ids, [1, 3, 0]);
        let all = likeliest(&logits, 1.0, 9);
        assert_eq!((all.ids.as_slice(), all.others), ([1, 3, 0, 2].as_slice(), None));
    }

    #[test]
    fn a_temperature_flattens() {
        // Square roots of 1 and 1/16: probabilities 4/5 and 1/5.
        let found = likeliest(&[0.0, 16f32.ln()], 2.0, 1);
        assert!((found.log_probabilities[0].exp() - 0.8).abs() < 1e-6);
        assert!((found.others.unwrap().exp() - 0.2).abs() < 1e-6);
    }
}
