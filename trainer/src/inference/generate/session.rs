//! [`Session`]: generates tokens for one growing sequence, whose keys and values are cached.

use std::ops::ControlFlow;

use firebrand_models::Predictor;
use firebrand_models::parts::{Cache, Inputs};

use super::Sampler;

/// A network and the sequence it has read and written so far.
#[derive(Debug)]
pub struct Session<'a> {
    predictor: Predictor<'a>,
    cache: Cache,
    seen: Vec<u32>,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model chose a stop token, which is not part of the result, or the caller ended it.
    Stop,
    /// The largest number of tokens is reached.
    Length,
}

impl<'a> Session<'a> {
    /// An empty sequence. The network must be on a device without autodiff.
    pub fn new(predictor: Predictor<'a>) -> Self {
        Self { predictor, cache: predictor.cache(), seen: vec![] }
    }

    /// Makes the sequence equal to `prompt` and generates at most `max_new_tokens`. What the cache holds is not read
    /// again. Each new token is passed to `on_token`.
    ///
    /// If `prompt` does not continue the tokens read so far, the sequence starts over. At least one token must be read,
    /// so the caller must refuse an empty prompt. Generation ends where the model has no more positions.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        stop: &[u32],
        max_new_tokens: usize,
        sampler: &mut Sampler,
        mut on_token: impl FnMut(u32),
    ) -> (Vec<u32>, Finish) {
        self.generate_while(prompt, stop, max_new_tokens, sampler, |token| {
            on_token(token);
            ControlFlow::Continue(())
        })
    }

    /// The same, until `on_token` breaks off. The token at which it does is part of the result.
    pub fn generate_while(
        &mut self,
        prompt: &[u32],
        stop: &[u32],
        max_new_tokens: usize,
        sampler: &mut Sampler,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> (Vec<u32>, Finish) {
        let room = self.predictor.position_limit().map(|limit| (limit + 1).saturating_sub(prompt.len()));
        let max_new_tokens = room.unwrap_or(max_new_tokens).min(max_new_tokens);
        let mut logits = self.read_prompt(prompt);
        let mut written = vec![];
        while written.len() < max_new_tokens {
            let token = sampler.choose(&logits, &self.seen);
            if stop.contains(&token) {
                return (written, Finish::Stop);
            }
            written.push(token);
            if on_token(token).is_break() {
                return (written, Finish::Stop);
            }
            if written.len() < max_new_tokens {
                logits = self.read(&[token]);
            }
        }
        (written, Finish::Length)
    }

    fn read_prompt(&mut self, prompt: &[u32]) -> Vec<f32> {
        if !prompt.starts_with(&self.seen) || prompt.len() == self.seen.len() {
            self.cache = self.predictor.cache();
            self.seen.clear();
        }
        let fresh = prompt[self.seen.len()..].to_vec();
        self.read(&fresh)
    }

    /// Reads more tokens; returns the logits after the last one.
    fn read(&mut self, tokens: &[u32]) -> Vec<f32> {
        let before = self.seen.len();
        self.seen.extend_from_slice(tokens);
        let crosses = |limit| (1..=limit).contains(&before) && self.seen.len() > limit;
        let start = if self.predictor.positions_change_after().is_some_and(crosses) {
            self.cache = self.predictor.cache();
            0
        } else {
            before
        };
        let hidden = self.predictor.hidden_cached(&Inputs::row(&self.seen[start..], start), &mut self.cache);
        let [_, time, width] = hidden.dims();
        let last = hidden.slice([0..1, time - 1..time, 0..width]);
        let logits = self.predictor.head().logits(last);
        logits.into_data().iter::<f32>().collect()
    }
}
