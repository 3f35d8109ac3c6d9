//! The whole decoder.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::{Linear, Mode};

use super::{Block, Cache, Context, DecoderConfig, Norm, Position};
use crate::parameters::{ParameterSource, linear};

/// Embedding, blocks, final norm and output head.
#[derive(Module, Debug)]
pub struct Decoder {
    embed: Param<Tensor<2>>,
    layers: Vec<Block>,
    norm: Norm,
    /// Absent: the embedding is the head.
    head: Option<Linear>,
    #[module(skip)]
    config: DecoderConfig,
}

/// Token ids of a batch with their places, on the host. All fields are `[batch, time]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Rows.
    pub batch: usize,
    /// Tokens a row, padding included.
    pub time: usize,
    /// Token ids.
    pub ids: Vec<i32>,
    /// Position of each token in its own segment.
    pub positions: Vec<i32>,
    /// Segment of each token: tokens see their own segment only. Absent: each row is one segment.
    pub segments: Option<Vec<i32>>,
    segment_lengths: Vec<usize>,
}

impl Inputs {
    /// A batch whose rows may hold several segments.
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

    /// One unpadded row that continues after `past` tokens.
    pub fn row(ids: &[u32], past: usize) -> Self {
        let positions = (past..past + ids.len()).map(|position| position as i32).collect();
        Self::new(1, ids.len(), ids.iter().map(|&id| id as i32).collect(), positions, None)
    }

    /// Tokens up to the end of the segment that the token at `index` (row-major) is in.
    pub(super) fn segment_length(&self, index: usize) -> usize {
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

impl Decoder {
    /// Reads every parameter from `source`.
    pub fn new(config: &DecoderConfig, source: &mut dyn ParameterSource) -> Self {
        let shape = [config.vocab_size, config.hidden_size];
        let embed = source.matrix("embed", shape);
        let layers = (0..config.layers).map(|index| Block::new(config, &format!("layers.{index}"), source)).collect();
        let norm = Norm::new(config.norm, config.hidden_size, "norm", source);
        let head = (!config.tied_head).then(|| linear(source, "head", shape, false));
        Self { embed, layers, norm, head, config: config.clone() }
    }

    /// Sizes and variants.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The blocks, for callers that drive them one by one.
    pub fn layers(&self) -> &[Block] {
        &self.layers
    }

    /// What the blocks share for this batch.
    pub fn context(&self, inputs: &Inputs, mode: Mode) -> Context {
        let device = self.device();
        let segments = inputs.segments.clone().map(|segments| ids_tensor(segments, inputs, &device));
        let position = Position::new(&self.config.position, inputs, &device);
        Context { position, segments, mode }
    }

    /// Embedded tokens `[batch, time, hidden_size]`.
    pub fn embed(&self, inputs: &Inputs) -> Tensor<3> {
        let ids = ids_tensor(inputs.ids.clone(), inputs, &self.device());
        let x = burn::tensor::module::embedding(self.embed.val(), ids.clone());
        match self.config.padding_token {
            Some(padding) if x.is_tracked() => {
                let [batch, time, width] = x.dims();
                let mask = ids.equal_elem(padding as i32).unsqueeze_dim::<3>(2).expand([batch, time, width]);
                x.clone().mask_where(mask, x.detach())
            }
            _ => x,
        }
    }

    /// The final norm, `[batch, time, hidden_size]` to the same.
    pub fn final_norm(&self, x: Tensor<3>) -> Tensor<3> {
        self.norm.forward(x)
    }

    /// Normalised hidden states `[batch, time, hidden_size]`; logits are `hidden * head_weight^T`.
    pub fn forward(&self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        let context = self.context(inputs, mode);
        let x = self.layers.iter().fold(self.embed(inputs), |x, layer| layer.forward(x, &context, None));
        self.final_norm(x)
    }

    /// Like [`Self::forward`] in inference for one more piece of the sequence in `cache`.
    pub fn forward_cached(&self, inputs: &Inputs, cache: &mut Cache) -> Tensor<3> {
        let context = self.context(inputs, Mode::Inference);
        let mut x = self.embed(inputs);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, &context, Some(cache.layer(index)));
        }
        self.final_norm(x)
    }

    /// The output head, `[vocab_size, hidden_size]`.
    pub fn head_weight(&self) -> Tensor<2> {
        self.head.as_ref().map_or_else(|| self.embed.val(), Linear::weight)
    }

    /// Every linear map but the head, with its path.
    pub fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let layers = self.layers.iter_mut().enumerate();
        layers
            .flat_map(|(index, layer)| {
                layer.linears_mut().into_iter().map(move |(name, map)| (format!("layers.{index}.{name}"), map))
            })
            .collect()
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.embed.lazy_device()
    }
}

fn ids_tensor(ids: Vec<i32>, inputs: &Inputs, device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(ids, [inputs.batch, inputs.time]), device)
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
