//! The decoder: [`Decoder`] is a decoder-only transformer of embedding, blocks, final norm and output head.
//!
//! ```text
//! ids -> embed -> [ x + attention(norm(x)) -> x + mlp(norm(x)) ] * layers -> norm -> head
//! ```

mod config;
mod head;

pub use config::{DecoderConfig, HeadConfig};
pub use head::Head;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Tensor};
use firebrand_adapters::{Linear, Lora, Mode};
use firebrand_kernels::{HeadWeight, Precision};

use crate::adapter::{Placed, Site};
use crate::parameters::{Initial, ParameterSource, Role, frozen, join, linear, tensor, under, under_at, vector};
use crate::parts::{Block, Cache, Context, Embedding, Inputs, Maps, Norm, Position, Residual, ids_tensor, maps};

/// A decoder-only transformer.
#[derive(Module, Debug)]
pub struct Decoder {
    embed: Embedding,
    layers: Vec<Block>,
    /// The final norm; absent where every block ends with a norm.
    norm: Option<Norm>,
    /// From the width of the residual stream to that of the head.
    project: Option<Linear>,
    head: OutputHead,
    /// The score map of a sequence classifier, which has no output head.
    score: Option<Score>,
    #[module(skip)]
    config: DecoderConfig,
    /// Of the output head.
    #[module(skip)]
    precision: Precision,
}

maps!(Decoder { embed, layers, project });

/// The parameters of the output head.
#[derive(Module, Debug)]
pub struct OutputHead {
    /// The head's matrix; absent where the token table is used.
    weight: Option<Param<Tensor<2>>>,
    bias: Option<Param<Tensor<1>>>,
    adapter: Option<Lora>,
}

/// The map from hidden states to a score for each class.
#[derive(Module, Debug)]
pub struct Score {
    /// `[classes, width]`.
    weight: Param<Tensor<2>>,
}

impl Decoder {
    /// Path of the token table.
    pub const EMBEDDING: &str = "embed.tokens";
    /// Path of the output head's matrix.
    pub const HEAD: &str = "head.weight";
    /// Path of the output head's bias.
    const HEAD_BIAS: &str = "head.bias";
    /// Path of the score map's matrix. Files have the same name for it.
    pub const SCORE: &str = "score.weight";

    /// Reads every parameter from `source`.
    pub fn new(config: &DecoderConfig, source: &mut dyn ParameterSource) -> Self {
        let (width, narrow) = (config.block.width, config.embedding_width());
        let embed = Embedding::new(&config.token_embedding(), &mut under_at(source, "embed", config.layers + 1));
        let layers = Block::stack(&config.block, config.layers, source);
        let norm = (config.block.residual != Residual::After)
            .then(|| Norm::new(config.block.norm, width, &mut under(source, "norm")));
        let project = (narrow != width).then(|| linear(source, "project", [narrow, width], false, Role::Projection));
        let mut matrix = |path, rows| tensor(source, path, [rows, narrow], Role::Head, Initial::Normal);
        let score = config.classes.map(|classes| Score { weight: matrix(Self::SCORE, classes) });
        let predicts = score.is_none();
        let weight = (predicts && !config.head.tied).then(|| matrix(Self::HEAD, config.vocab_size));
        let bias =
            (predicts && config.head.bias).then(|| vector(source, Self::HEAD_BIAS, config.vocab_size, Role::Bias, 0.0));
        let head = OutputHead { weight, bias, adapter: None };
        Self { embed, layers, norm, project, head, score, config: config.clone(), precision: Precision::F32 }
    }

    /// Puts a frozen score for each of `classes` classes in the place of the output head.
    pub(crate) fn become_classifier(&mut self, classes: usize, source: &mut dyn ParameterSource) {
        let shape = [classes, self.config.embedding_width()];
        let weight = tensor(source, Self::SCORE, shape, Role::Head, Initial::Normal);
        self.score = Some(Score { weight: frozen(weight.val()) });
        self.head = OutputHead { weight: None, bias: None, adapter: None };
        self.config.classes = Some(classes);
    }

    /// Whether the parameter at `path` belongs to the output head.
    pub(crate) fn is_of_head(path: &str) -> bool {
        path == Self::HEAD || path == Self::HEAD_BIAS
    }

    /// Sets the id with which texts are padded.
    pub(crate) fn set_padding(&mut self, id: usize) {
        self.config.padding = Some(id);
    }

    /// The matrix of scores, `[classes, width]`, of a sequence classifier.
    pub fn score(&self) -> Option<Tensor<2>> {
        self.score.as_ref().map(|score| score.weight.val())
    }

    /// Sizes and variants.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The blocks, for callers that drive them one by one.
    pub fn layers(&self) -> &[Block] {
        &self.layers
    }

    /// What the blocks share for this batch: positions, segments and mode.
    pub fn context(&self, inputs: &Inputs, mode: Mode) -> Context {
        let device = self.device();
        let segments = inputs.segments.clone().map(|segments| ids_tensor(segments, inputs, &device));
        let segments = segments.map(|segments| (segments.clone(), segments));
        let position = Position::new(&self.config.block.position, inputs, &device);
        Context { position, segments, mode, routing: None }
    }

    /// Embedded tokens `[batch, time, width]`.
    pub fn embed(&self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        self.embed.forward(inputs, mode)
    }

    /// Turns the output of the last block, `[batch, time, width]`, into the hidden states that the head reads.
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

    /// Like [`Self::forward`], with a given context.
    pub fn forward_with(&self, inputs: &Inputs, context: &Context) -> Tensor<3> {
        let embedded = self.embed(inputs, context.mode);
        let x = self.layers.iter().fold(embedded, |x, layer| layer.forward(x, context, None));
        self.finish(x, context.mode)
    }

    /// Like [`Self::forward`] in inference, for tokens that continue the sequence in `cache`.
    pub fn forward_cached(&self, inputs: &Inputs, cache: &mut Cache) -> Tensor<3> {
        let context = self.context(inputs, Mode::Inference);
        let mut x = self.embed(inputs, context.mode);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, &context, Some(cache.layer(index)));
        }
        self.finish(x, context.mode)
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Sets in which numbers the products of attention and head read their operands.
    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
        self.layers.iter_mut().for_each(|layer| layer.set_precision(precision));
    }

    /// The output head.
    pub fn head(&self) -> Head {
        let low_rank = self.head.adapter.as_ref().map(|adapter| adapter.b.val());
        let weight = HeadWeight { matrix: self.head_weight(), low_rank, precision: self.precision };
        let bias = self.head.bias.as_ref().map(|bias| bias.val());
        Head { weight, bias, softcap: self.config.head.softcap }
    }

    /// The matrix of the head without its adapter, `[vocab_size, width]`.
    pub fn head_weight(&self) -> Tensor<2> {
        self.head.weight.as_ref().map_or_else(|| self.embed.tokens(), |weight| weight.val())
    }

    /// The places for adapters, by the path of the parameter that is adapted.
    pub(crate) fn sites_mut(&mut self) -> Vec<(String, Site<'_>)> {
        let head = self.head_weight();
        let [rows, width] = [self.config.vocab_size, self.config.embedding_width()];
        let mut maps = vec![];
        let tokens = self.embed.sites_mut("embed", &mut maps);
        self.layers.maps_mut("layers", &mut maps);
        self.project.maps_mut("project", &mut maps);
        let mut sites: Vec<(String, Site<'_>)> =
            maps.into_iter().map(|(path, map)| (join(&path, "weight"), Site::Linear(map))).collect();
        sites.push((Self::EMBEDDING.into(), Site::Tokens(tokens, [width, rows])));
        if self.score.is_none() {
            sites.push((Self::HEAD.into(), Site::Head(&mut self.head.adapter, head)));
        }
        sites
    }

    /// The adapters of the token table and of the head, with the path of the adapted parameter and of the part that
    /// holds them.
    pub(crate) fn outer_adapters(&self) -> Vec<Placed<'_>> {
        let tokens = self.embed.adapter().as_ref().map(|lora| Placed::tokens(Self::EMBEDDING, "embed", lora));
        let head = self.head.adapter.as_ref().map(|lora| Placed::head(Self::HEAD, "head", lora));
        tokens.into_iter().chain(head).collect()
    }

    /// Gives a tied head a matrix of its own, frozen, with the values of the token table.
    pub(crate) fn untie(&mut self) {
        if self.head.weight.is_none() && self.score.is_none() {
            self.head.weight = Some(frozen(self.embed.tokens()));
            self.config.head.tied = false;
        }
    }

    /// Replaces token table, head and bias by what `change` makes of each, `[rows, any]`, given its path.
    pub(crate) fn replace_vocabulary(&mut self, rows: usize, change: &mut dyn FnMut(&str, Tensor<2>) -> Tensor<2>) {
        self.embed.replace_tokens(|table| change(Self::EMBEDDING, table));
        self.head.weight = self.head.weight.take().map(|head| frozen(change(Self::HEAD, head.val())));
        let of_bias = |bias: Tensor<1>, change: &mut dyn FnMut(&str, Tensor<2>) -> Tensor<2>| {
            change(Self::HEAD_BIAS, bias.unsqueeze_dim(1)).squeeze_dim::<1>(1)
        };
        self.head.bias = self.head.bias.take().map(|bias| frozen(of_bias(bias.val(), change)));
        self.config.vocab_size = rows;
    }

    /// Merges the adapters of the token table and of the head. If the two were tied, they no longer are.
    pub(crate) fn merge_outer_adapters(&mut self) {
        if self.embed.adapter().is_some() || self.head.adapter.is_some() {
            self.untie();
        }
        self.embed.merge();
        if let Some(adapter) = self.head.adapter.take() {
            self.head.weight =
                self.head.weight.take().map(|head| head.map(|weight| weight.cast(DType::F32) + adapter.delta()));
        }
    }

    /// The device of the parameters.
    pub fn device(&self) -> Device {
        self.embed.device()
    }
}
