//! Batches: [`Batch`] lays out the examples of some packs as the arrays that a model computes on in one step.

use rayon::prelude::*;

use crate::array::NamedArrays;
use crate::documents::DocumentAttention;
use crate::error::DataError;
use crate::example::{Example, Part};
use crate::kind::RowKind;
use crate::label::RowLabel;
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
/// across examples. Where documents are joined, all examples of a pack are one: one segment, positions that run on, and
/// targets across their bounds, as the reference practice has it (`group_texts` in `run_clm.py` of transformers).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenBatch {
    /// Packs in the batch.
    pub rows: usize,
    /// Tokens of the longest pack.
    pub length: usize,
    /// Token ids; 0 in padding.
    pub input_ids: Vec<i32>,
    /// Position of each token in its segment, from 0; 0 in padding.
    pub positions: Vec<i32>,
    /// Which example of its pack a token belongs to, from 1 (1 for all where documents are joined); 0 = padding. Tokens
    /// attend within their segment only.
    pub segments: Vec<i32>,
    /// The token to predict after each token; -100 = none.
    pub targets: Vec<i32>,
    /// Factor on the loss of each prediction; 0 where the target is -100.
    pub weights: Vec<f32>,
    /// The examples of each pack, in the order of their segments, by their numbers in the dataset: for random draws that
    /// belong to an example wherever it stands.
    pub examples: Vec<Vec<usize>>,
    /// Where each example stands, in the order of the packs.
    pub spans: Vec<Span>,
}

/// The place of an example in a batch, for what is computed of examples and not of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Index of its first token in the flat arrays.
    pub start: usize,
    /// Number of its tokens.
    pub length: usize,
    /// Whether it stands alone or is an answer of a pair; the two of a pair follow each other.
    pub part: Part,
    /// The label of its row, where the row has one.
    pub label: Option<RowLabel>,
    /// Factor on the loss of the row: that of its label, else that of its first labelled token; 0 where nothing is trained.
    pub weight: f32,
}

impl Batch {
    /// Lays out `packs`, whose examples are of `kind`. `length` gives the length of an example by its number, `example`
    /// the example itself, `arrays` those of an example of tensors; each example is fetched once.
    pub(crate) fn fetch(
        kind: RowKind,
        documents: DocumentAttention,
        packs: &[Pack],
        length: impl Fn(usize) -> usize,
        example: impl Fn(usize) -> Result<Example, DataError>,
        arrays: impl Fn(&Example) -> Result<NamedArrays, DataError> + Send + Sync,
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
                for (place, number) in batch.places(documents, packs, length) {
                    let example = example(number)?;
                    batch.lay(place, example.part, example.tokens()?);
                }
                BatchContent::Tokens(batch)
            }
            RowKind::Tensors => {
                let numbers = packs.iter().flat_map(|pack| &pack.examples);
                let examples = numbers.map(|number| example(*number)).collect::<Result<Vec<_>, _>>()?;
                // Pictures are decoded on all cores.
                BatchContent::Tensors(examples.par_iter().map(arrays).collect::<Result<_, _>>()?)
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

impl TokenBatch {
    /// Lays out `packs`, whose examples are indices into `examples` and never see each other.
    pub fn new(examples: &[Tokens], packs: &[Pack]) -> Self {
        Self::of_documents(DocumentAttention::Separate, examples, packs)
    }

    /// Lays out `packs`, whose examples are indices into `examples`.
    pub fn of_documents(documents: DocumentAttention, examples: &[Tokens], packs: &[Pack]) -> Self {
        let mut batch = Self::padding(packs);
        for (place, number) in batch.places(documents, packs, |number| examples[number].input_ids.len()) {
            batch.lay(place, Part::Alone, &examples[number]);
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
            examples: packs.iter().map(|pack| pack.examples.clone()).collect(),
            spans: vec![],
        }
    }

    /// Where each example lies, and its number in the dataset.
    fn places(
        &self,
        documents: DocumentAttention,
        packs: &[Pack],
        length: impl Fn(usize) -> usize,
    ) -> Vec<(Place, usize)> {
        let mut places = Vec::new();
        for (index, pack) in packs.iter().enumerate() {
            let mut before = 0;
            for (rank, &number) in pack.examples.iter().enumerate() {
                let start = index * self.length + before;
                let place = match documents {
                    DocumentAttention::Separate => Place { start, segment: rank as i32 + 1, position: 0 },
                    DocumentAttention::Joined => Place { start, segment: 1, position: before },
                };
                places.push((place, number));
                before += length(number);
            }
        }
        places
    }

    fn lay(&mut self, place: Place, part: Part, tokens: &Tokens) {
        let trained =
            || tokens.labels.iter().position(|label| *label != NOT_TRAINED).map(|first| tokens.weights[first]);
        let weight = tokens.label.as_ref().map_or_else(|| trained().unwrap_or(0.0), |row| row.weight);
        let (start, length, label) = (place.start, tokens.input_ids.len(), tokens.label.clone());
        self.spans.push(Span { start, length, part, label, weight });
        for (index, id) in tokens.input_ids.iter().enumerate() {
            let (at, position) = (place.start + index, place.position + index);
            self.input_ids[at] = *id as i32;
            self.positions[at] = position as i32;
            self.segments[at] = place.segment;
            // Nothing comes before the first token of a segment that could predict it.
            if position > 0 && tokens.labels[index] != NOT_TRAINED {
                self.targets[at - 1] = tokens.labels[index] as i32;
                self.weights[at - 1] = tokens.weights[index];
            }
        }
    }

    /// Number of predictions that count in the loss; a row that has a label as a whole counts as one.
    pub fn labelled_tokens(&self) -> usize {
        let rows = self.spans.iter().filter(|span| span.label.as_ref().is_some_and(|row| row.weight > 0.0)).count();
        rows + self.targets.iter().filter(|target| **target != NOT_TRAINED as i32).count()
    }

    /// Number of tokens that are not padding.
    pub fn tokens(&self) -> usize {
        self.segments.iter().filter(|segment| **segment != 0).count()
    }
}

/// Where an example lies in a batch.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The index of its first token in the flat arrays.
    start: usize,
    /// Its segment.
    segment: i32,
    /// The position of its first token in the segment.
    position: usize,
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
    fn a_joined_pack_is_the_row_of_its_documents_one_after_the_other() {
        let examples = [example(&[5, 6, 7], 0), example(&[8, 9], 0), example(&[4, 3, 2], 1)];
        let packs = [pack(&[0, 1, 2], 8), pack(&[1, 0], 5)];
        let joined = TokenBatch::of_documents(DocumentAttention::Joined, &examples, &packs);
        let concatenated = |numbers: &[usize]| {
            numbers[1..].iter().fold(examples[numbers[0]].clone(), |mut whole, number| {
                whole.append(examples[*number].clone());
                whole
            })
        };
        let rows = [concatenated(&[0, 1, 2]), concatenated(&[1, 0])];
        let expected = TokenBatch::new(&rows, &[pack(&[0], 8), pack(&[1], 5)]);
        // Each document keeps its own place.
        assert_eq!(joined.spans.iter().map(|span| span.start).collect::<Vec<_>>(), [0, 3, 5, 8, 10]);
        let (spans, examples) = (expected.spans.clone(), expected.examples.clone());
        assert_eq!(TokenBatch { spans, examples, ..joined.clone() }, expected);
        assert_eq!(joined.positions[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(joined.segments, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
        // 7 predicts 8, the first token of the next document; 9 does not predict 4, which is not trained.
        assert_eq!(joined.targets[..8], [6, 7, 8, 9, -100, 3, 2, -100]);
        // The padding of the first pack, and the last token of a pack, predict nothing.
        assert_eq!(joined.targets[8..], [9, 5, 6, 7, -100, -100, -100, -100]);
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
    fn the_place_of_every_example_is_known() {
        let label = |weight: f32| Some(RowLabel { label: None, weight });
        let examples = [example(&[5, 6, 7], 1), Tokens { label: label(2.0), ..example(&[8, 9], 9) }, example(&[4], 9)];
        let batch = TokenBatch::new(&examples, &[pack(&[0, 1], 5), pack(&[2], 1)]);
        let places: Vec<_> = batch.spans.iter().map(|span| (span.start, span.length, span.weight)).collect();
        assert_eq!(places, [(0, 3, 0.5), (3, 2, 2.0), (5, 1, 0.0)]);
        assert_eq!((batch.spans[1].label.clone(), batch.labelled_tokens()), (label(2.0), 3));
    }

    #[test]
    fn no_packs_are_an_empty_batch() {
        assert_eq!(TokenBatch::new(&[], &[]), TokenBatch::default());
    }
}
