//! The whole decoder.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use firebrand_adapters::{Linear, Lora, Mode};
use firebrand_kernels::HeadWeight;

use super::embedding::ids_tensor;
use super::{
    Block, Cache, Context, DecoderConfig, Embedding, EmbeddingConfig, Head, Norm, Position, PositionConfig, Residual,
};
use crate::hf_config::RopeScaling;
use crate::parameters::{ParameterSource, linear};

/// Embedding, blocks, final norm and output head.
#[derive(Module, Debug)]
pub struct Decoder {
    embed: Embedding,
    layers: Vec<Block>,
    /// Absent where every block ends with one.
    norm: Option<Norm>,
    /// From the width of the stream to that of the head.
    project: Option<Linear>,
    head: OutputHead,
    #[module(skip)]
    config: DecoderConfig,
}

/// Parameters of the output head.
#[derive(Module, Debug)]
pub struct OutputHead {
    /// Absent: the token table is the matrix.
    weight: Option<Param<Tensor<2>>>,
    bias: Option<Param<Tensor<1>>>,
    adapter: Option<Lora>,
}

/// The parameter that is the token table.
pub const EMBEDDING: &str = "embed.tokens";
/// The parameter that is the output head's matrix.
pub const HEAD: &str = "head.weight";

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
        let (hidden, narrow) = (config.hidden_size, config.embedding_width());
        let embed = Embedding::new(config, "embed", source);
        let block = |layer| Block::new(config, layer, &format!("layers.{layer}"), source);
        let layers = (0..config.layers).map(block).collect();
        let norm = (config.residual != Residual::After).then(|| Norm::new(config.norm, hidden, "norm", source));
        let project = (narrow != hidden).then(|| linear(source, "project", [narrow, hidden], false));
        let head = OutputHead {
            weight: (!config.head.tied).then(|| source.matrix(HEAD, [config.vocab_size, narrow])),
            bias: config.head.bias.then(|| source.vector("head.bias", config.vocab_size, 0.0)),
            adapter: None,
        };
        Self { embed, layers, norm, project, head, config: config.clone() }
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
        Context { position, segments, mode, routing: None }
    }

    /// Embedded tokens `[batch, time, hidden_size]`.
    pub fn embed(&self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        self.embed.forward(inputs, mode)
    }

    /// What follows the last block: `[batch, time, hidden_size]` to the hidden states that the head reads.
    pub fn finish(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let x = match &self.project {
            Some(project) => project.forward(x, mode),
            None => x,
        };
        match &self.head.adapter {
            Some(adapter) => adapter.widened(x, mode),
            None => x,
        }
    }

    /// The hidden states that the head reads, `[batch, time, width]`; an adapter of the head widens them by its rank.
    pub fn forward(&self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        self.forward_with(inputs, &self.context(inputs, mode))
    }

    /// Like [`Self::forward`], in a context of the caller's.
    pub fn forward_with(&self, inputs: &Inputs, context: &Context) -> Tensor<3> {
        let embedded = self.embed(inputs, context.mode);
        let x = self.layers.iter().fold(embedded, |x, layer| layer.forward(x, context, None));
        self.finish(x, context.mode)
    }

    /// Like [`Self::forward`] in inference for one more piece of the sequence in `cache`.
    pub fn forward_cached(&self, inputs: &Inputs, cache: &mut Cache) -> Tensor<3> {
        let context = self.context(inputs, Mode::Inference);
        let mut x = self.embed(inputs, context.mode);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, &context, Some(cache.layer(index)));
        }
        self.finish(x, context.mode)
    }

    /// The output head.
    pub fn head(&self) -> Head {
        let low_rank = self.head.adapter.as_ref().map(|adapter| adapter.b.val());
        let weight = HeadWeight { matrix: self.head_weight(), low_rank };
        let bias = self.head.bias.as_ref().map(|bias| bias.val());
        Head { weight, bias, softcap: self.config.head.softcap }
    }

    /// The matrix of the head without its adapter, `[vocab_size, width]`.
    pub fn head_weight(&self) -> Tensor<2> {
        self.head.weight.as_ref().map_or_else(|| self.embed.tokens(), |weight| weight.val())
    }

    /// The token table without its adapter.
    pub(crate) fn embedding(&self) -> Tensor<2> {
        self.embed.tokens()
    }

    /// Rows and width of the token table.
    pub(crate) fn embedding_shape(&self) -> [usize; 2] {
        [self.config.vocab_size, self.config.embedding_width()]
    }

    /// Every linear map but the head, with its path; and the adapters of the token table and of the head.
    pub(crate) fn adapter_places(&mut self) -> (Vec<(String, &mut Linear)>, &mut Option<Lora>, &mut Option<Lora>) {
        let (embed, tokens) = self.embed.adapter_places();
        let embed = embed.into_iter().map(|(name, map)| (format!("embed.{name}"), map));
        let layers = self.layers.iter_mut().enumerate().flat_map(|(index, layer)| {
            layer.linears_mut().into_iter().map(move |(name, map)| (format!("layers.{index}.{name}"), map))
        });
        let project = self.project.iter_mut().map(|map| ("project".to_string(), map));
        (embed.chain(layers).chain(project).collect(), tokens, &mut self.head.adapter)
    }

    /// Gives a head that is the token table a matrix of its own, frozen, as it is now.
    pub(crate) fn untie(&mut self) {
        if self.head.weight.is_none() {
            self.head.weight = Some(Param::from_tensor(self.embed.tokens().detach()).set_require_grad(false));
            self.config.head.tied = false;
        }
    }

    /// Folds the adapters of the token table and of the head into them. Where the two were one they no longer are.
    pub(crate) fn merge_outer_adapters(&mut self) {
        if self.embed.adapter_places().1.is_some() || self.head.adapter.is_some() {
            self.untie();
        }
        self.embed.merge();
        if let Some(adapter) = self.head.adapter.take() {
            self.head.weight = self.head.weight.take().map(|head| head.map(|weight| weight + adapter.delta()));
        }
    }

    /// Every linear map but the head, with its path.
    pub fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        self.adapter_places().0
    }

    /// Whether the linear map at `path` is a router, which adapters leave alone unless asked.
    pub fn is_router(path: &str) -> bool {
        path.ends_with(".mlp.router")
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.embed.device()
    }
}

impl DecoderConfig {
    /// Width of the token table and of the head.
    pub fn embedding_width(&self) -> usize {
        match self.embedding {
            EmbeddingConfig::Projected { width } => width,
            EmbeddingConfig::Plain | EmbeddingConfig::Scaled(_) | EmbeddingConfig::Normalised => self.hidden_size,
        }
    }

    /// The length after which the positions of all tokens are others, so that what a cache holds is worth nothing: longrope
    /// has one set of frequencies up to it and another beyond.
    pub fn positions_change_after(&self) -> Option<usize> {
        let ropes = match &self.position {
            PositionConfig::Rope { rope, .. } => std::slice::from_ref(rope),
            PositionConfig::RopeByLayer { ropes, .. } => ropes.as_slice(),
            PositionConfig::Learned { .. } | PositionConfig::Alibi(_) => &[],
        };
        ropes.iter().find_map(|rope| match rope.scaling {
            RopeScaling::Long { original_max_position_embeddings, .. } => Some(original_max_position_embeddings),
            _ => None,
        })
    }

    /// The longest sequence that can be computed at all, where there is a limit: a table of positions ends.
    pub fn position_limit(&self) -> Option<usize> {
        match self.position {
            PositionConfig::Learned { .. } => Some(self.max_positions),
            PositionConfig::Rope { .. } | PositionConfig::RopeByLayer { .. } | PositionConfig::Alibi(_) => None,
        }
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
