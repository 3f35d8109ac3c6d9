//! What a step computes on: packs side by side, padded on the right to the longest of them.
//!
//! Padding is known by its segment (0), never by a token's id, because `pad == eos` is common and the EOS of a row must
//! be trained. A target is the label of the next token of the *same* row, so nothing is predicted across rows.

use crate::error::DataError;
use crate::example::Example;
use crate::pack::Pack;

/// The label and target of what is not trained.
pub const NOT_TRAINED: i64 = -100;

/// A batch, its arrays `[rows, length]` in row-major order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Packs in the batch.
    pub rows: usize,
    /// Tokens of the longest pack.
    pub length: usize,
    /// Tokens; 0 in padding.
    pub input_ids: Vec<i32>,
    /// Place of each token in its own row, from 0; 0 in padding.
    pub positions: Vec<i32>,
    /// Which row of its pack a token belongs to, from 1; 0 = padding. Tokens attend within their segment only.
    pub segments: Vec<i32>,
    /// The token to predict after each token; -100 = none.
    pub targets: Vec<i32>,
    /// Factor on the loss of each prediction; 0 where the target is -100.
    pub weights: Vec<f32>,
    /// The examples in each pack, by their number in the dataset, in the order of their segments.
    pub examples: Vec<Vec<usize>>,
}

impl Batch {
    /// Lays out `packs`, whose rows are numbers into `examples`.
    pub fn new(examples: &[Example], packs: &[Pack]) -> Self {
        let mut batch = Self::padding(packs);
        for (place, row) in batch.places(packs, |row| examples[row].input_ids.len()) {
            batch.lay(place, &examples[row]);
        }
        batch
    }

    /// As [`Batch::new`], each row fetched once.
    pub(crate) fn fetch(
        packs: &[Pack],
        length: impl Fn(usize) -> usize,
        row: impl Fn(usize) -> Result<Example, DataError>,
    ) -> Result<Self, DataError> {
        let mut batch = Self::padding(packs);
        for (place, number) in batch.places(packs, length) {
            batch.lay(place, &row(number)?);
        }
        Ok(batch)
    }

    /// Nothing but padding, as large as the packs need it.
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
            examples: packs.iter().map(|pack| pack.rows.clone()).collect(),
        }
    }

    /// Where each row begins and its segment, with its number.
    fn places(&self, packs: &[Pack], length: impl Fn(usize) -> usize) -> Vec<((usize, i32), usize)> {
        let mut places = Vec::new();
        for (index, pack) in packs.iter().enumerate() {
            let mut start = index * self.length;
            for (segment, &row) in pack.rows.iter().enumerate() {
                places.push(((start, segment as i32 + 1), row));
                start += length(row);
            }
        }
        places
    }

    fn lay(&mut self, (start, segment): (usize, i32), example: &Example) {
        let length = example.input_ids.len();
        for index in 0..length {
            let at = start + index;
            self.input_ids[at] = example.input_ids[index] as i32;
            self.positions[at] = index as i32;
            self.segments[at] = segment;
            let next = index + 1;
            if next < length && example.labels[next] != NOT_TRAINED {
                self.targets[at] = example.labels[next] as i32;
                self.weights[at] = example.weights[next];
            }
        }
    }

    /// How many predictions count.
    pub fn labelled_tokens(&self) -> usize {
        self.targets.iter().filter(|target| **target != NOT_TRAINED as i32).count()
    }

    /// How many tokens are not padding.
    pub fn tokens(&self) -> usize {
        self.segments.iter().filter(|segment| **segment != 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Notes;
    use crate::location::Location;

    fn example(ids: &[u32], trained_from: usize) -> Example {
        let label = |index: usize| match index >= trained_from {
            true => i64::from(ids[index]),
            false => NOT_TRAINED,
        };
        let labels: Vec<i64> = (0..ids.len()).map(label).collect();
        Example {
            source: Location::new("rows.jsonl", 1),
            text: None,
            input_ids: ids.to_vec(),
            weights: labels.iter().map(|label| f32::from(*label != NOT_TRAINED) * 0.5).collect(),
            labels,
            roles: None,
            part: crate::example::Part::Alone,
            source_index: 0,
            notes: Notes::default(),
        }
    }

    fn pack(rows: &[usize], length: usize) -> Pack {
        Pack { rows: rows.to_vec(), length }
    }

    #[test]
    fn segments_never_cross_and_positions_restart() {
        let examples = [example(&[5, 6, 7], 1), example(&[8, 9], 0), example(&[4, 4, 4], 2)];
        let batch = Batch::new(&examples, &[pack(&[0, 1], 5), pack(&[2], 3)]);
        assert_eq!((batch.rows, batch.length), (2, 5));
        assert_eq!(batch.input_ids, [5, 6, 7, 8, 9, 4, 4, 4, 0, 0]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 0, 1, 2, 0, 0]);
        assert_eq!(batch.segments, [1, 1, 1, 2, 2, 1, 1, 1, 0, 0]);
        // 7 does not predict 8, although 8 is labelled: they are not of one row.
        assert_eq!(batch.targets, [6, 7, -100, 9, -100, -100, 4, -100, -100, -100]);
        assert_eq!(batch.weights, [0.5, 0.5, 0.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0]);
        assert_eq!(batch.labelled_tokens(), 4);
        assert_eq!(batch.tokens(), 8);
        assert_eq!(batch.examples, [vec![0, 1], vec![2]]);
    }

    #[test]
    fn a_row_that_ends_in_the_padding_id_keeps_its_label() {
        let examples = [example(&[3, 0], 0), example(&[1, 2, 0, 0], 1)];
        let batch = Batch::new(&examples, &[pack(&[0], 2), pack(&[1], 4)]);
        assert_eq!(batch.targets, [0, -100, -100, -100, 2, 0, 0, -100]);
        assert_eq!(batch.segments, [1, 1, 0, 0, 1, 1, 1, 1]);
        let labelled: usize = examples.iter().map(Example::labelled_tokens).sum();
        assert_eq!(batch.labelled_tokens(), labelled);
    }

    #[test]
    fn no_packs_are_an_empty_batch() {
        assert_eq!(Batch::new(&[], &[]), Batch::default());
    }
}
