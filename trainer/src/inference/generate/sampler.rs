//! Chooses the next token from logits: [`Sampler`].
//!
//! Settings and their order are those of transformers' logits processors (transformers 5, `generation/logits_process.py` and
//! `_get_logits_processor`): repetition penalty, temperature, top-k, top-p, min-p. The draw is ours, by a random stream of
//! the seed.

use firebrand_adapters::stream;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// The method by which the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most likely token; among equals, the one with the lowest id.
    Greedy,
    /// A random one of the likely tokens.
    Random(Draw),
}

/// Which tokens are drawn from, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Divides the logits; above 0.
    pub temperature: f64,
    /// How many of the likeliest tokens remain, with all that are as likely as the last of them; 0: all.
    pub top_k: usize,
    /// Smallest probability mass that the remaining tokens cover, in (0, 1] (Holtzman et al. 2019, arXiv:1904.09751).
    pub top_p: f64,
    /// Smallest probability of a remaining token, as a share of the likeliest one's, in [0, 1] (Nguyen et al. 2024,
    /// arXiv:2407.01082).
    pub min_p: f64,
    /// Seed of the draws.
    pub seed: u64,
}

impl Sampling {
    /// A sampler at the start of its random stream.
    pub fn start(self) -> Sampler {
        let seed = match self {
            Self::Greedy => 0,
            Self::Random(draw) => draw.seed,
        };
        Sampler { sampling: self, repetition_penalty: 1.0, rng: stream(seed, "generate") }
    }
}

/// Chooses one token after the other.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    repetition_penalty: f32,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// Divides the positive logits of tokens that were seen by `penalty`, and multiplies the negative ones (Keskar et al.
    /// 2019, arXiv:1909.05858). 1 changes nothing.
    pub fn penalising(self, penalty: f64) -> Self {
        Self { repetition_penalty: penalty as f32, ..self }
    }

    /// The next token id. `logits` are those of the whole vocabulary, `seen` the tokens read and written so far.
    pub fn choose(&mut self, logits: &[f32], seen: &[u32]) -> u32 {
        let logits = self.penalised(logits, seen);
        match self.sampling {
            Sampling::Greedy => greedy(&logits),
            Sampling::Random(draw) => {
                let candidates = draw.candidates(&logits);
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

    /// The next token id where nothing was seen yet.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        self.choose(logits, &[])
    }

    /// The tokens that may be drawn next with their probabilities, the likeliest first; all of them where nothing is drawn.
    pub fn probabilities(&self, logits: &[f32], seen: &[u32]) -> Vec<(u32, f64)> {
        let all = Draw { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 };
        let draw = match self.sampling {
            Sampling::Greedy => all,
            Sampling::Random(draw) => draw,
        };
        let mut candidates = draw.candidates(&self.penalised(logits, seen));
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        candidates.iter_mut().for_each(|(_, weight)| *weight /= total);
        candidates
    }

    fn penalised(&self, logits: &[f32], seen: &[u32]) -> Vec<f32> {
        let mut penalised = logits.to_vec();
        if self.repetition_penalty != 1.0 {
            // From the logits as they were, so that a token seen twice is penalised once.
            for &id in seen {
                if let (Some(place), Some(logit)) = (penalised.get_mut(id as usize), logits.get(id as usize)) {
                    *place =
                        if *logit < 0.0 { logit * self.repetition_penalty } else { logit / self.repetition_penalty };
                }
            }
        }
        penalised
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

impl Draw {
    /// The tokens that remain, the likeliest first; each with its unnormalised probability.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut weights: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(id, logit)| (id as u32, (f64::from(logit - highest) / self.temperature).exp()))
            .collect();
        weights.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        if self.top_k > 0
            && let Some((_, least)) = weights.get(self.top_k - 1).copied()
        {
            weights.retain(|(_, weight)| *weight >= least);
        }
        let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut covered = 0.0;
        let last = weights.iter().position(|(_, weight)| {
            covered += weight / total;
            covered >= self.top_p
        });
        weights.truncate(last.map_or(weights.len(), |last| last + 1));
        // The likeliest one has the weight 1, and always remains.
        weights.retain(|(_, weight)| *weight >= self.min_p);
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Draw = Draw { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 };

    fn ids(draw: Draw, probabilities: &[f32]) -> Vec<u32> {
        let logits: Vec<f32> = probabilities.iter().map(|probability| probability.ln()).collect();
        draw.candidates(&logits).iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn greedy_takes_the_lowest_id_of_equals() {
        assert_eq!(Sampling::Greedy.start().next(&[0.0, 2.0, 2.0, 1.0]), 1);
    }

    #[test]
    fn the_nucleus_is_the_smallest_set_that_covers_top_p() {
        let top_p = |top_p| ids(Draw { top_p, ..ALL }, &[0.5, 0.3, 0.2]);
        assert_eq!(top_p(0.4), [0]);
        assert_eq!(top_p(0.7), [0, 1]);
        assert_eq!(top_p(1.0), [0, 1, 2]);
    }

    #[test]
    fn equals_of_the_last_of_top_k_remain() {
        let top_k = |top_k| ids(Draw { top_k, ..ALL }, &[0.125, 0.5, 0.25, 0.125]);
        assert_eq!(top_k(1), [1]);
        assert_eq!(top_k(3), [1, 2, 0, 3]);
        assert_eq!(top_k(9), [1, 2, 0, 3]);
    }

    #[test]
    fn the_likeliest_token_remains_whatever_min_p_is() {
        assert_eq!(ids(Draw { min_p: 1.0, ..ALL }, &[0.2, 0.5, 0.3]), [1]);
        assert_eq!(ids(Draw { min_p: 0.5, ..ALL }, &[0.2, 0.5, 0.3]), [1, 2]);
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let logits = [0.75_f32.ln(), 0.25_f32.ln()];
        let draw = |seed| {
            let mut sampler = Sampling::Random(Draw { seed, ..ALL }).start();
            (0..4000).map(|_| sampler.next(&logits)).collect::<Vec<_>>()
        };
        let share = draw(1).iter().filter(|id| **id == 0).count() as f64 / 4000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
