//! Chooses the next token from logits: [`Sampler`].

use firebrand_adapters::stream;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The method by which the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most likely token; among equals, the one with the lowest id.
    Greedy,
    /// A random token from the nucleus (Holtzman et al. 2019, arXiv:1904.09751).
    Nucleus {
        /// Divides the logits; above 0.
        temperature: f64,
        /// Smallest probability mass that the candidates cover, in (0, 1].
        top_p: f64,
        /// Seed of the draws.
        seed: u64,
    },
}

impl Sampling {
    /// Greedy for temperature 0, otherwise nucleus sampling.
    pub fn new(temperature: f64, top_p: f64, seed: u64) -> Self {
        if temperature == 0.0 { Self::Greedy } else { Self::Nucleus { temperature, top_p, seed } }
    }

    /// A sampler at the start of its random stream.
    pub fn start(self) -> Sampler {
        let seed = match self {
            Self::Greedy => 0,
            Self::Nucleus { seed, .. } => seed,
        };
        Sampler { sampling: self, rng: stream(seed, "generate") }
    }
}

/// Chooses one token after the other.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// The next token id. `logits` are those of the whole vocabulary.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        match self.sampling {
            Sampling::Greedy => greedy(logits),
            Sampling::Nucleus { temperature, top_p, .. } => {
                let candidates = nucleus(logits, temperature, top_p);
                let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
                let mut left = self.rng.random::<f64>() * total;
                for &(id, weight) in &candidates {
                    left -= weight;
                    if left < 0.0 {
                        return id;
                    }
                }
                candidates.last().map_or(0, |(id, _)| *id)
            }
        }
    }
}

fn greedy(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// The most likely tokens, best first, until they cover `top_p`; each with its unnormalised probability.
fn nucleus(logits: &[f32], temperature: f64, top_p: f64) -> Vec<(u32, f64)> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<(u32, f64)> = logits
        .iter()
        .enumerate()
        .map(|(id, logit)| (id as u32, (f64::from(logit - highest) / temperature).exp()))
        .collect();
    weights.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut covered = 0.0;
    let kept = weights.iter().position(|(_, weight)| {
        covered += weight / total;
        covered >= top_p
    });
    weights.truncate(kept.map_or(weights.len(), |last| last + 1));
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_lowest_id_of_equals() {
        assert_eq!(Sampling::new(0.0, 1.0, 0).start().next(&[0.0, 2.0, 2.0, 1.0]), 1);
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_that_covers_top_p() {
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        let ids = |top_p| nucleus(&logits, 1.0, top_p).iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(ids(0.4), [0]);
        assert_eq!(ids(0.7), [0, 1]);
        assert_eq!(ids(1.0), [0, 1, 2]);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = [0.75_f32.ln(), 0.25_f32.ln()];
        let draw = |seed| {
            let mut sampler = Sampling::new(1.0, 1.0, seed).start();
            (0..4000).map(|_| sampler.next(&logits)).collect::<Vec<_>>()
        };
        let share = draw(1).iter().filter(|id| **id == 0).count() as f64 / 4000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
