//! One sequence that grows: tokens in, logits out, keys and values kept.

use firebrand_models::CausalLm;
use firebrand_models::transformer::{Cache, Inputs};

use super::Sampler;

/// A model reading and writing one sequence.
#[derive(Debug)]
pub struct Session<'a> {
    model: &'a CausalLm,
    cache: Cache,
    seen: Vec<u32>,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model wrote one of the stop tokens; it is not part of the result.
    Stop,
    /// The allowed number of tokens is reached.
    Length,
}

impl<'a> Session<'a> {
    /// An empty sequence. The model must be on a device without autodiff.
    pub fn new(model: &'a CausalLm) -> Self {
        Self { model, cache: Cache::new(model.decoder().config().layers), seen: vec![] }
    }

    /// Makes the sequence equal to `prompt` without reading again what the cache already holds, then writes at most
    /// `max_new_tokens`, each given to `on_token` as it comes.
    ///
    /// A prompt that differs from the tokens seen starts over. Reads at least one token, so an empty prompt must be
    /// refused before. Writing ends where the model has no more positions.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        stop: &[u32],
        max_new_tokens: usize,
        sampler: &mut Sampler,
        mut on_token: impl FnMut(u32),
    ) -> (Vec<u32>, Finish) {
        let room = self.model.decoder().config().position_limit().map(|limit| (limit + 1).saturating_sub(prompt.len()));
        let max_new_tokens = room.unwrap_or(max_new_tokens).min(max_new_tokens);
        let mut logits = self.read_prompt(prompt);
        let mut written = vec![];
        while written.len() < max_new_tokens {
            let token = sampler.next(&logits);
            if stop.contains(&token) {
                return (written, Finish::Stop);
            }
            on_token(token);
            written.push(token);
            if written.len() < max_new_tokens {
                logits = self.read(&[token]);
            }
        }
        (written, Finish::Length)
    }

    fn read_prompt(&mut self, prompt: &[u32]) -> Vec<f32> {
        if !prompt.starts_with(&self.seen) || prompt.len() == self.seen.len() {
            self.cache = Cache::new(self.model.decoder().config().layers);
            self.seen.clear();
        }
        let fresh = prompt[self.seen.len()..].to_vec();
        self.read(&fresh)
    }

    /// Reads more tokens; gives the logits after the last one.
    fn read(&mut self, tokens: &[u32]) -> Vec<f32> {
        let decoder = self.model.decoder();
        let before = self.seen.len();
        self.seen.extend_from_slice(tokens);
        let crosses = |limit| (1..=limit).contains(&before) && self.seen.len() > limit;
        let start = if decoder.config().positions_change_after().is_some_and(crosses) {
            self.cache = Cache::new(decoder.config().layers);
            0
        } else {
            before
        };
        let hidden = decoder.forward_cached(&Inputs::row(&self.seen[start..], start), &mut self.cache);
        let [_, time, width] = hidden.dims();
        let last = hidden.slice([0..1, time - 1..time, 0..width]);
        let logits = decoder.head().logits(last);
        logits.into_data().iter::<f32>().collect()
    }
}
