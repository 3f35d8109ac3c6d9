//! [`Inputs`]: the part of a batch that a network over tokens reads, and the noise on its embeddings.

use burn::tensor::{Device, Tensor, TensorData};
use firebrand_adapters::{stream, uniform};

/// Token ids of a batch with their positions and segments, on the host. All fields are `[batch, time]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Number of packs or sequences.
    pub batch: usize,
    /// Number of tokens in each, padding included.
    pub time: usize,
    /// Token ids.
    pub ids: Vec<i32>,
    /// Position of each token in its own segment.
    pub positions: Vec<i32>,
    /// Segment of each token: tokens see only their own segment. Absent: each sequence is one segment.
    pub segments: Option<Vec<i32>>,
    segment_lengths: Vec<usize>,
    noise: Option<EmbeddingNoise>,
}

/// Noise on embedded tokens in training (NEFTune, Jain et al. 2023, arXiv:2310.05914): uniform in
/// `[-alpha, alpha) / sqrt(length * width)`, with the length of the token's own segment and the width of the token table.
///
/// The reference takes the padded length of a micro-batch for `length`. Here a row's noise is a function of `key`, of the
/// row's number and of its own length, so that no padding, pack or micro-batch changes it. Padding has none.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingNoise {
    /// Its size.
    pub alpha: f64,
    /// Seed of this optimiser step's noise.
    pub key: u64,
    /// A number for each segment of each sequence, in order: rows with the same number have the same noise.
    pub rows: Vec<Vec<usize>>,
}

impl Inputs {
    /// A batch whose packs may hold several segments.
    ///
    /// # Panics
    /// If a field does not hold `batch * time` values.
    pub fn new(batch: usize, time: usize, ids: Vec<i32>, positions: Vec<i32>, segments: Option<Vec<i32>>) -> Self {
        let count = batch * time;
        assert!(ids.len() == count && positions.len() == count, "ids and positions must be [batch, time]");
        assert!(segments.as_ref().is_none_or(|segments| segments.len() == count), "segments must be [batch, time]");
        let mut inputs = Self { batch, time, ids, positions, segments, segment_lengths: vec![], noise: None };
        inputs.segment_lengths = inputs.lengths();
        inputs
    }

    /// One unpadded sequence that continues after `past` tokens.
    pub fn row(ids: &[u32], past: usize) -> Self {
        let positions = (past..past + ids.len()).map(|position| position as i32).collect();
        Self::new(1, ids.len(), ids.iter().map(|&id| id as i32).collect(), positions, None)
    }

    /// The same tokens, embedded with noise.
    ///
    /// # Panics
    /// If a sequence has more segments than rows are named for it.
    pub fn with_noise(self, noise: EmbeddingNoise) -> Self {
        let places = self.segments.iter().flatten().zip(0..);
        let named = |(&segment, at): (&i32, usize)| noise.rows[at / self.time].len() >= segment as usize;
        assert!(self.segments.is_some() && places.into_iter().all(named), "noise is drawn for the rows of each pack");
        Self { noise: Some(noise), ..self }
    }

    /// The noise `[batch, time, width]` on embedded tokens, if there is any.
    pub(crate) fn noise(&self, width: usize, device: &Device) -> Option<Tensor<3>> {
        let (noise, segments) = (self.noise.as_ref()?, self.segments.as_ref()?);
        let mut values = vec![0.0; self.ids.len() * width];
        let mut start = 0;
        while start < segments.len() {
            // A segment of a sequence ends where the next one, or the next sequence, begins.
            let (sequence, segment) = (start / self.time, segments[start]);
            let end = (sequence + 1) * self.time;
            let stop = (start..end).find(|&index| segments[index] != segment).unwrap_or(end);
            if segment > 0 {
                let row = noise.rows[sequence][segment as usize - 1];
                let bound = noise.alpha / ((stop - start) as f64 * width as f64).sqrt();
                let mut rng = stream(noise.key, &format!("neftune#{row}"));
                let drawn = uniform(&mut rng, (stop - start) * width, bound as f32);
                values[start * width..stop * width].copy_from_slice(&drawn);
            }
            start = stop;
        }
        Some(Tensor::from_data(TensorData::new(values, [self.batch, self.time, width]), device))
    }

    /// Number of tokens up to the end of the segment that contains the token at `index` (row-major).
    pub(crate) fn segment_length(&self, index: usize) -> usize {
        self.segment_lengths[index]
    }

    fn lengths(&self) -> Vec<usize> {
        let mut lengths = vec![0; self.ids.len()];
        let segment = |index: usize| self.segments.as_ref().map_or(0, |segments| segments[index]);
        for row in 0..self.batch {
            let (mut start, end) = (row * self.time, (row + 1) * self.time);
            while start < end {
                let stop = (start..end).find(|&index| segment(index) != segment(start)).unwrap_or(end);
                let longest = self.positions[start..stop].iter().max().map_or(0, |&last| last as usize + 1);
                lengths[start..stop].fill(longest);
                start = stop;
            }
        }
        lengths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_lengths_are_per_segment() {
        let inputs = Inputs::new(1, 6, vec![0; 6], vec![0, 1, 2, 0, 1, 0], Some(vec![1, 1, 1, 2, 2, 0]));
        let lengths: Vec<usize> = (0..6).map(|index| inputs.segment_length(index)).collect();
        assert_eq!(lengths, [3, 3, 3, 2, 2, 1]);
    }

    /// Values of [`Inputs::noise`] for rows of 4 and 2 tokens, in one pack or side by side.
    fn noise(ids: [usize; 2], packed: bool, key: u64) -> Vec<f32> {
        let (rows, segments) = match packed {
            true => (vec![ids.to_vec()], vec![1, 1, 1, 1, 2, 2]),
            false => (ids.map(|id| vec![id]).to_vec(), vec![1, 1, 1, 1, 1, 1, 0, 0]),
        };
        let (batch, count) = (rows.len(), segments.len());
        let inputs = Inputs::new(batch, count / batch, vec![0; count], vec![0; count], Some(segments));
        let inputs = inputs.with_noise(EmbeddingNoise { alpha: 5.0, key, rows });
        inputs.noise(3, &Device::flex()).unwrap().into_data().iter::<f32>().collect()
    }

    #[test]
    fn a_row_keeps_its_noise_in_any_pack() {
        let (packed, apart) = (noise([7, 9], true, 1), noise([7, 9], false, 1));
        assert_eq!(packed, apart[..18]);
        assert!(apart[18..].iter().all(|value| *value == 0.0), "padding has none");
        assert_eq!(packed[..12], noise([7, 8], true, 1)[..12], "whatever stands beside it");
        assert_ne!(packed, noise([7, 9], true, 2));
        assert_ne!(packed[..6], noise([9, 9], true, 1)[..6]);
    }

    #[test]
    fn noise_fills_the_bounds_of_the_rows_own_length() {
        let largest = |values: &[f32]| values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let mut most = [0.0_f32; 2];
        for key in 0..200 {
            let values = noise([7, 9], true, key);
            most = [most[0].max(largest(&values[..12])), most[1].max(largest(&values[12..]))];
        }
        for (most, length) in most.into_iter().zip([4.0_f32, 2.0]) {
            let bound = 5.0 / (length * 3.0).sqrt();
            assert!(most <= bound && most > 0.99 * bound, "{most} of {bound}");
        }
    }
}
