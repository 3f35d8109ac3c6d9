//! Answers that do not belong to their prompts: [`Mismatched`] gives each prompt the answer of the row before it.
//!
//! How much likelier such an answer is by the model than by the base tells how far the model has gone from it in general. The first
//! prompt gets the last answer, so every prompt and every answer is used once. The order is that of the step, whatever its micro-batches
//! and packs; a step of one row is left as it is.

use std::ops::Range;

use firebrand_datasets::{NOT_TRAINED, Pack, Part, TokenBatch, Tokens};

use super::answers::Judged;

/// Pairs prompts with the answers before them, over batches that follow each other.
#[derive(Debug, Default)]
pub(super) struct Mismatched {
    /// The prompt that waits for the last answer.
    first: Option<Tokens>,
    /// The answer that waits for a prompt.
    last: Option<Tokens>,
}

impl Mismatched {
    /// The mismatched rows that another batch gives.
    pub fn next(&mut self, batch: Judged<'_>) -> Vec<Tokens> {
        let mut rows = vec![];
        for (_, places) in batch.examples() {
            let (prompt, answer) = parted(batch.tokens, places);
            match self.last.replace(answer) {
                Some(before) => rows.push(joined(prompt, before)),
                None => self.first = Some(prompt),
            }
        }
        rows
    }

    /// The first prompt with the last answer.
    pub fn end(self) -> Option<Tokens> {
        Some(joined(self.first?, self.last?))
    }
}

fn joined(mut prompt: Tokens, answer: Tokens) -> Tokens {
    prompt.input_ids.extend(answer.input_ids);
    prompt.labels.extend(answer.labels);
    prompt.weights.extend(answer.weights);
    prompt
}

/// An example, cut before its first labelled token.
fn parted(tokens: &TokenBatch, places: Range<usize>) -> (Tokens, Tokens) {
    // A token is labelled where the one before it has a target.
    let label = |at: usize| match at > places.start && tokens.targets[at - 1] >= 0 {
        true => i64::from(tokens.targets[at - 1]),
        false => NOT_TRAINED,
    };
    let part = |places: Range<usize>| Tokens {
        input_ids: places.clone().map(|at| tokens.input_ids[at] as u32).collect(),
        labels: places.clone().map(label).collect(),
        weights: vec![1.0; places.len()],
        ..Tokens::default()
    };
    let cut = places.clone().find(|at| label(*at) != NOT_TRAINED).unwrap_or(places.end);
    (part(places.start..cut), part(cut..places.end))
}

/// Batches of rows that are not longer than `longest` (what goes beyond is cut off) and together about as large as `like`.
pub(super) fn batches(mut rows: Vec<Tokens>, like: &TokenBatch, longest: usize) -> Vec<(Vec<Vec<Part>>, TokenBatch)> {
    for row in &mut rows {
        row.input_ids.truncate(longest);
        row.labels.truncate(longest);
        row.weights.truncate(longest);
    }
    let mut packs: Vec<Pack> = vec![];
    for (number, row) in rows.iter().enumerate() {
        let length = row.input_ids.len();
        match packs.last_mut() {
            Some(pack) if pack.length + length <= like.length => {
                pack.examples.push(number);
                pack.length += length;
            }
            _ => packs.push(Pack { examples: vec![number], length }),
        }
    }
    let laid = packs.chunks(like.rows.max(1)).map(|packs| {
        let parts = packs.iter().map(|pack| vec![Part::Alone; pack.examples.len()]).collect();
        (parts, TokenBatch::new(&rows, packs))
    });
    laid.collect()
}
