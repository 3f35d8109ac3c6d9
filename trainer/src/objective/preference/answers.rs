//! Where the answers of a batch lie, [`Answers`], and what a network gives them.
//!
//! An answer is the labelled tokens of one segment of a pack; its log-probability is the sum over them, the first of which is
//! predicted at the last token before it. A pair is two segments that follow each other.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_datasets::{Batch, Part, TokenBatch};
use firebrand_models::{Network, Predictor};

use crate::error::Error;
use crate::objective::views::{inputs, predictor, token_batch};

/// A batch of tokens, and what is said of its examples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged<'a> {
    /// Of each example of each pack.
    pub parts: &'a [Vec<Part>],
    pub tokens: &'a TokenBatch,
}

impl<'a> Judged<'a> {
    /// A batch.
    ///
    /// # Errors
    /// A batch that is not of tokens.
    pub fn of(batch: &'a Batch) -> Result<Self, Error> {
        Ok(Self { parts: &batch.parts, tokens: token_batch(batch)? })
    }

    /// The examples, in the order of packs and segments, with the flattened `[batch * time]` positions of their tokens.
    pub fn examples(self) -> Vec<(Part, Range<usize>)> {
        let mut found = vec![];
        for (row, parts) in self.parts.iter().enumerate() {
            let mut next = row * self.tokens.length;
            let end = next + self.tokens.length;
            for (index, part) in parts.iter().enumerate() {
                let is_own = |segment: &&i32| **segment == index as i32 + 1;
                let length = self.tokens.segments[next..end].iter().take_while(is_own).count();
                found.push((*part, next..next + length));
                next += length;
            }
        }
        found
    }
}

/// The answers of a batch, in the order of its packs and segments.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Answers {
    /// Indices into the flattened `[batch * time]` positions at which something is predicted, and what.
    positions: Vec<i32>,
    targets: Vec<i32>,
    /// Whether the prediction is of the answer; else it is of its prompt.
    is_answer: Vec<bool>,
    /// One for each segment.
    pub all: Vec<Answer>,
}

/// An answer in a batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// What is said of it.
    pub part: Part,
    /// Its place among the answers of the batch.
    index: usize,
    /// The weight of its row.
    pub weight: f64,
    /// Its predictions, with those of its prompt where these were asked for.
    predictions: Range<usize>,
    /// Number of its tokens that are predicted.
    tokens: usize,
}

/// An answer with its log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The sum over its tokens.
    pub sum: f64,
    /// The same by the reference; 0 without one.
    pub reference: f64,
    /// Number of its tokens.
    pub tokens: f64,
}

impl Scored {
    /// The mean over its tokens.
    pub fn mean(self) -> f64 {
        self.sum / self.tokens
    }

    /// How much likelier it is than by the reference.
    pub fn log_ratio(self) -> f64 {
        self.sum - self.reference
    }
}

impl Answers {
    /// The answers of a batch. With `with_prompts`, the predictions of the prompts of chosen answers are among them.
    pub fn of(batch: Judged<'_>, with_prompts: bool) -> Self {
        let mut found = Self::default();
        for (part, places) in batch.examples() {
            found.add(part, batch.tokens, places, with_prompts && part == Part::Chosen);
        }
        found
    }

    fn add(&mut self, part: Part, tokens: &TokenBatch, places: Range<usize>, with_prompt: bool) {
        let first = self.positions.len();
        let (mut weight, mut count) = (0.0, 0_u32);
        // Nothing is predicted at the last token.
        for at in places.start..places.end.saturating_sub(1) {
            let labelled = tokens.targets[at] >= 0;
            if labelled {
                weight += f64::from(tokens.weights[at]);
                count += 1;
            }
            if labelled || with_prompt {
                self.positions.push(at as i32);
                self.targets.push(if labelled { tokens.targets[at] } else { tokens.input_ids[at + 1] });
                self.is_answer.push(labelled);
            }
        }
        let predictions = first..self.positions.len();
        let (index, weight) = (self.all.len(), weight / f64::from(count.max(1)));
        self.all.push(Answer { part, index, weight, predictions, tokens: count as usize });
    }

    /// Where something is predicted, and what.
    #[cfg(test)]
    pub fn predicted(&self) -> Vec<(i32, i32)> {
        self.positions.iter().copied().zip(self.targets.iter().copied()).collect()
    }

    /// Whether nothing is predicted.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The log-probability of every prediction, from hidden states `[batch, time, width]` that the head reads.
    pub fn log_probabilities(&self, predictor: Predictor<'_>, hidden: Tensor<3>) -> Tensor<1> {
        let ([batch, time, width], device) = (hidden.dims(), hidden.device());
        let integers =
            |values: &[i32]| Tensor::<1, Int>::from_data(TensorData::new(values.to_vec(), [values.len()]), &device);
        let hidden = hidden.reshape([batch * time, width]).select(0, integers(&self.positions));
        predictor.head().log_probabilities(hidden, integers(&self.targets))
    }

    /// The same by a network on a device without autodiff, on the host.
    pub fn by(&self, network: &Network, tokens: &TokenBatch) -> Vec<f32> {
        if self.is_empty() {
            return vec![];
        }
        let predictor = predictor(network);
        let hidden = predictor.hidden(&inputs(tokens), Mode::Inference);
        self.log_probabilities(predictor, hidden).into_data().iter::<f32>().collect()
    }

    /// The log-probability of each answer by those of all predictions.
    pub fn sums(&self, predictions: &[f32]) -> Vec<f64> {
        self.all.iter().map(|answer| self.sum(answer, predictions)).collect()
    }

    /// An answer by what the model gives all predictions, and the reference, where there is one, all answers.
    pub fn scored(&self, answer: &Answer, model: &[f32], reference: Option<&[f64]>) -> Scored {
        let reference = reference.map_or(0.0, |sums| sums[answer.index]);
        Scored { sum: self.sum(answer, model), reference, tokens: answer.tokens.max(1) as f64 }
    }

    fn sum(&self, answer: &Answer, predictions: &[f32]) -> f64 {
        self.tokens_of(answer).map(|index| f64::from(predictions[index])).sum()
    }

    /// The indices of the predictions that are of the answer itself.
    pub fn tokens_of(&self, answer: &Answer) -> impl Iterator<Item = usize> {
        answer.predictions.clone().filter(|index| self.is_answer[*index])
    }

    /// The pairs of answers, the better one first.
    ///
    /// # Errors
    /// The rows are not pairs.
    pub fn pairs(&self) -> Result<Vec<[&Answer; 2]>, Error> {
        let pairs = self.all.chunks(2).map(pair).collect::<Option<Vec<_>>>();
        pairs.ok_or_else(|| Error::Request {
            problem: "the rows are no pairs of a better and a worse answer".into(),
            help: "give this objective rows of format = \"preference\"".into(),
        })
    }
}

impl Answer {
    /// Its predictions, those of its prompt among them where these were asked for.
    pub fn predictions(&self) -> Range<usize> {
        self.predictions.clone()
    }
}

/// The two answers of a pair, if they are that.
fn pair(answers: &[Answer]) -> Option<[&Answer; 2]> {
    match answers {
        [chosen @ Answer { part: Part::Chosen, .. }, rejected @ Answer { part: Part::Rejected, .. }] => {
            Some([chosen, rejected])
        }
        _ => None,
    }
}
