//! [`Inputs`]: the part of a batch that a network over tokens reads.

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
        let mut inputs = Self { batch, time, ids, positions, segments, segment_lengths: vec![] };
        inputs.segment_lengths = inputs.lengths();
        inputs
    }

    /// One unpadded sequence that continues after `past` tokens.
    pub fn row(ids: &[u32], past: usize) -> Self {
        let positions = (past..past + ids.len()).map(|position| position as i32).collect();
        Self::new(1, ids.len(), ids.iter().map(|&id| id as i32).collect(), positions, None)
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
}
