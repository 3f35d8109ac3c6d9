//! Batches: [`Batch`] lays out the examples of some packs as the arrays that a model computes on in one step.

use crate::array::NamedArrays;
use crate::error::DataError;
use crate::example::{Example, ExampleContent, Part};
use crate::kind::RowKind;
use crate::pack::Pack;
use crate::tokens::{NOT_TRAINED, Tokens};

/// The examples of some packs, laid out for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The examples of each pack, by their numbers in the dataset, in the order in which they stand in the pack.
    pub examples: Vec<Vec<usize>>,
    /// Which part of its row each of them is.
    pub parts: Vec<Vec<Part>>,
    /// What the model is given.
    pub content: BatchContent,
}

/// The arrays that a model is given for a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum BatchContent {
    /// Packs of tokens side by side.
    Tokens(TokenBatch),
    /// The arrays of each example, in the order of the packs. Rows of tensors are not packed: each pack is one example.
    Tensors(Vec<NamedArrays>),
}

/// Packs side by side, padded on the right to the longest of them. All arrays are `[rows, length]` in row-major order.
///
/// Padding is marked by its segment (0), never by a token's id, because `pad == eos` is common and the EOS token of an
/// example must be trained. A target is the label of the next token of the *same* example, so nothing is predicted
/// across examples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenBatch {
    /// Packs in the batch.
    pub rows: usize,
    /// Tokens of the longest pack.
    pub length: usize,
    /// Token ids; 0 in padding.
    pub input_ids: Vec<i32>,
    /// Position of each token in its own example, from 0; 0 in padding.
    pub positions: Vec<i32>,
    /// Which example of its pack a token belongs to, from 1; 0 = padding. Tokens attend within their segment only.
    pub segments: Vec<i32>,
    /// The token to predict after each token; -100 = none.
    pub targets: Vec<i32>,
    /// Factor on the loss of each prediction; 0 where the target is -100.
    pub weights: Vec<f32>,
}

impl Batch {
    /// Lays out `packs`, whose examples are of `kind`. `length` gives the length of an example by its number, `example`
    /// the example itself; each example is fetched once.
    pub(crate) fn fetch(
        kind: RowKind,
        packs: &[Pack],
        length: impl Fn(usize) -> usize,
        example: impl Fn(usize) -> Result<Example, DataError>,
    ) -> Result<Self, DataError> {
        let mut parts = Vec::new();
        let mut example = |number: usize| {
            let example = example(number)?;
            parts.push(example.part);
            Ok::<_, DataError>(example)
        };
        let content = match kind {
            RowKind::Tokens => {
                let mut batch = TokenBatch::padding(packs);
                for (place, number) in batch.places(packs, length) {
                    batch.lay(place, example(number)?.tokens()?);
                }
                BatchContent::Tokens(batch)
            }
            RowKind::Tensors => {
                let numbers = packs.iter().flat_map(|pack| &pack.examples);
                let rows = numbers.map(|number| arrays(&example(*number)?));
                BatchContent::Tensors(rows.collect::<Result<_, _>>()?)
            }
        };
        let mut parts = parts.into_iter();
        let parts = packs.iter().map(|pack| parts.by_ref().take(pack.examples.len()).collect()).collect();
        Ok(Self { examples: packs.iter().map(|pack| pack.examples.clone()).collect(), parts, content })
    }

    /// Number of predictions that count in the loss; a row of tensors counts as one.
    pub fn labelled_tokens(&self) -> usize {
        match &self.content {
            BatchContent::Tokens(batch) => batch.labelled_tokens(),
            BatchContent::Tensors(rows) => rows.len(),
        }
    }

    /// Number of tokens that are not padding; a row of tensors counts as one.
    pub fn tokens(&self) -> usize {
        match &self.content {
            BatchContent::Tokens(batch) => batch.tokens(),
            BatchContent::Tensors(rows) => rows.len(),
        }
    }

    /// The tokens, for code that computes on tokens only.
    ///
    /// # Errors
    /// The batch holds tensors.
    pub fn into_tokens(self) -> Result<TokenBatch, DataError> {
        match self.content {
            BatchContent::Tokens(batch) => Ok(batch),
            BatchContent::Tensors(_) => {
                let wanted = RowKind::Tokens;
                Err(DataError::Config(format!("{wanted} are needed here, and these are {}", RowKind::Tensors)))
            }
        }
    }
}

/// The arrays of a row of tensors.
fn arrays(example: &Example) -> Result<NamedArrays, DataError> {
    match &example.content {
        ExampleContent::Tensors(file) => file.read(&example.source),
        ExampleContent::Tokens(_) => {
            Err(DataError::row(&example.source, RowKind::Tensors.to_string(), "a row of tokens"))
        }
    }
}

impl TokenBatch {
    /// Lays out `packs`, whose examples are indices into `examples`.
    pub fn new(examples: &[Tokens], packs: &[Pack]) -> Self {
        let mut batch = Self::padding(packs);
        for (place, number) in batch.places(packs, |number| examples[number].input_ids.len()) {
            batch.lay(place, &examples[number]);
        }
        batch
    }

    /// A batch of nothing but padding, as large as `packs` need it.
    fn padding(packs: &[Pack]) -> Self {
        let length = packs.iter().map(|pack| pack.length).max().unwrap_or(0);
        let size = packs.len() * length;
        Self {
            rows: packs.len(),
            length,
            input_ids: vec![0; size],
            positions: vec![0; size],
            segments: vec![0; size],
            targets: vec![NOT_TRAINED as i32; size],
            weights: vec![0.0; size],
        }
    }

    /// For each example: the index in the flat arrays where it begins, its segment, and its number in the dataset.
    fn places(&self, packs: &[Pack], length: impl Fn(usize) -> usize) -> Vec<((usize, i32), usize)> {
        let mut places = Vec::new();
        for (index, pack) in packs.iter().enumerate() {
            let mut start = index * self.length;
            for (segment, &number) in pack.examples.iter().enumerate() {
                places.push(((start, segment as i32 + 1), number));
                start += length(number);
            }
        }
        places
    }

    fn lay(&mut self, (start, segment): (usize, i32), tokens: &Tokens) {
        let length = tokens.input_ids.len();
        for index in 0..length {
            let at = start + index;
            self.input_ids[at] = tokens.input_ids[index] as i32;
            self.positions[at] = index as i32;
            self.segments[at] = segment;
            let next = index + 1;
            if next < length && tokens.labels[next] != NOT_TRAINED {
                self.targets[at] = tokens.labels[next] as i32;
                self.weights[at] = tokens.weights[next];
            }
        }
    }

    /// Number of predictions that count in the loss.
    pub fn labelled_tokens(&self) -> usize {
        self.targets.iter().filter(|target| **target != NOT_TRAINED as i32).count()
    }

    /// Number of tokens that are not padding.
    pub fn tokens(&self) -> usize {
        self.segments.iter().filter(|segment| **segment != 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn example(ids: &[u32], trained_from: usize) -> Tokens {
        let label = |index: usize| match index >= trained_from {
            true => i64::from(ids[index]),
            false => NOT_TRAINED,
        };
        let labels: Vec<i64> = (0..ids.len()).map(label).collect();
        Tokens {
            input_ids: ids.to_vec(),
            weights: labels.iter().map(|label| f32::from(*label != NOT_TRAINED) * 0.5).collect(),
            labels,
            ..Tokens::default()
        }
    }

    fn pack(examples: &[usize], length: usize) -> Pack {
        Pack { examples: examples.to_vec(), length }
    }

    #[test]
    fn segments_never_cross_and_positions_restart() {
        let examples = [example(&[5, 6, 7], 1), example(&[8, 9], 0), example(&[4, 4, 4], 2)];
        let batch = TokenBatch::new(&examples, &[pack(&[0, 1], 5), pack(&[2], 3)]);
        assert_eq!((batch.rows, batch.length), (2, 5));
        assert_eq!(batch.input_ids, [5, 6, 7, 8, 9, 4, 4, 4, 0, 0]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 0, 1, 2, 0, 0]);
        assert_eq!(batch.segments, [1, 1, 1, 2, 2, 1, 1, 1, 0, 0]);
        // 7 does not predict 8, although 8 is labelled: they belong to different examples.
        assert_eq!(batch.targets, [6, 7, -100, 9, -100, -100, 4, -100, -100, -100]);
        assert_eq!(batch.weights, [0.5, 0.5, 0.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0]);
        assert_eq!(batch.labelled_tokens(), 4);
        assert_eq!(batch.tokens(), 8);
    }

    #[test]
    fn a_row_that_ends_in_the_padding_id_keeps_its_label() {
        let examples = [example(&[3, 0], 0), example(&[1, 2, 0, 0], 1)];
        let batch = TokenBatch::new(&examples, &[pack(&[0], 2), pack(&[1], 4)]);
        assert_eq!(batch.targets, [0, -100, -100, -100, 2, 0, 0, -100]);
        assert_eq!(batch.segments, [1, 1, 0, 0, 1, 1, 1, 1]);
        let labelled: usize = examples.iter().map(Tokens::labelled).sum();
        assert_eq!(batch.labelled_tokens(), labelled);
    }

    #[test]
    fn no_packs_are_an_empty_batch() {
        assert_eq!(TokenBatch::new(&[], &[]), TokenBatch::default());
    }
}
