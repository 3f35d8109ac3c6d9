//! Answers that the student writes during distillation, [`write_answers`] (GKD: Agarwal et al. 2023, arXiv:2306.13649).
//!
//! A row is chosen with a fixed probability at each visit. The student reads its tokens up to the first labelled one and goes
//! on by drawing from its own distributions. It stops behind the token with which the row's own answer ends, or after as
//! many tokens as the row had, so no pack grows. Choices and draws come from streams that are named by step, pack and
//! row: no split into micro-batches changes them, and a resumed run writes the same.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use firebrand_adapters::{Mode, stream};
use firebrand_datasets::{NOT_TRAINED, TokenBatch};
use firebrand_models::parts::Inputs;
use firebrand_models::{Network, Predictor};
use rand::Rng;

use super::views::predictor;

/// Replaces the answers of some rows by what the student writes. Returns for every position of the batch whether the
/// student wrote the token that it predicts.
pub fn write_answers(network: &Network, batch: &mut TokenBatch, mode: Mode, share: f64) -> Vec<bool> {
    let mut written = vec![false; batch.input_ids.len()];
    let Mode::Training { key, first_row } = mode else { return written };
    let network = network.valid();
    for row in 0..batch.rows {
        let line = row * batch.length..(row + 1) * batch.length;
        let segments = batch.segments[line.clone()].to_vec();
        let last = segments.iter().copied().max().unwrap_or(0);
        for segment in 1..=last {
            let mut random = stream(key, &format!("on-policy/{}/{segment}", first_row + row));
            if random.random::<f64>() >= share {
                continue;
            }
            let Some(from) = segments.iter().position(|of| *of == segment) else { continue };
            let to = segments.iter().rposition(|of| *of == segment).map_or(from, |last| last + 1);
            let (from, to) = (line.start + from, line.start + to);
            rewrite(predictor(&network), batch, from..to, &mut random, &mut written);
        }
    }
    written
}

/// Writes the answer of the row that lies at `row` of the batch.
fn rewrite(
    student: Predictor<'_>,
    batch: &mut TokenBatch,
    row: std::ops::Range<usize>,
    random: &mut impl Rng,
    written: &mut [bool],
) {
    let labelled = |at: &usize| batch.targets[*at] != NOT_TRAINED as i32;
    let (Some(first), Some(last)) = (row.clone().find(labelled), row.clone().rev().find(labelled)) else { return };
    let end = batch.targets[last];
    let answer = draw(student, &batch.input_ids[row.start..=first], row.end - first - 1, end, random);
    for at in first..row.end {
        let token = answer.get(at - first).copied();
        batch.targets[at] = token.unwrap_or(NOT_TRAINED as i32);
        batch.weights[at] = if token.is_some() { 1.0 } else { 0.0 };
        written[at] = token.is_some();
        if at > first && at - first > answer.len() {
            // Behind the answer nothing is left of the row.
            (batch.segments[at], batch.positions[at], batch.input_ids[at]) = (0, 0, 0);
        } else if at > first {
            batch.input_ids[at] = answer[at - first - 1];
        }
    }
}

/// Draws up to `most` tokens behind `prompt`, the last of them `end` if it is drawn.
fn draw(student: Predictor<'_>, prompt: &[i32], most: usize, end: i32, random: &mut impl Rng) -> Vec<i32> {
    let (mut cache, mut answer) = (student.cache(), vec![]);
    let mut next = prompt.to_vec();
    let mut position = 0;
    while answer.len() < most && answer.last() != Some(&end) {
        let positions = (position..position + next.len() as i32).collect();
        position += next.len() as i32;
        let inputs = Inputs::new(1, next.len(), next, positions, None);
        let hidden = student.hidden_cached(&inputs, &mut cache);
        let last = Tensor::<1, Int>::from_ints([hidden.dims()[1] as i32 - 1], &hidden.device());
        let logits = student.head().logits(hidden.select(1, last)).into_data();
        let token = pick(&logits.iter::<f32>().collect::<Vec<_>>(), random.random());
        answer.push(token);
        next = vec![token];
    }
    answer
}

/// The token at `point`, from 0 to 1, of the cumulative distribution `softmax(logits)`.
fn pick(logits: &[f32], point: f64) -> i32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(logit - largest).exp()).collect();
    let mut left = point * weights.iter().sum::<f64>();
    let found = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    found.unwrap_or(logits.len().saturating_sub(1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_picked_by_their_probability() {
        // Probabilities 1/4, 1/2, 1/4.
        let logits = [0.0, 2f32.ln(), 0.0];
        let found: Vec<i32> = [0.0, 0.24, 0.26, 0.74, 0.76, 0.999_999].map(|point| pick(&logits, point)).to_vec();
        assert_eq!(found, [0, 0, 1, 1, 2, 2]);
    }
}
