//! Views of a network: [`Predictor`], [`Pooled`] and others are what objectives and inference read, whatever the kind of network.
//!
//! Some kinds have a view and others do not. Code that needs a view asks for it and knows no kind. So a new kind that
//! has a view works at once with all code written for it.

use burn::tensor::{Device, Tensor};
use firebrand_adapters::Mode;
use firebrand_kernels::{Precision, linear};

use crate::decoder::{Decoder, Head};
use crate::diffusion::Diffusion;
use crate::network::Network;
use crate::parts::{Block, Cache, Context, Inputs};
use crate::towers::Towers;

/// A view of a network that predicts the next token: its hidden states and its head.
#[derive(Debug, Clone, Copy)]
pub enum Predictor<'a> {
    /// A decoder.
    Decoder(&'a Decoder),
}

/// A view of a network that reads a text as one row of features and scores it.
///
/// The features are the hidden state at the text's last token that is not padding. Padding is known *by its id*, as in
/// the reference: a text that ends with that id is read before it.
#[derive(Debug, Clone)]
pub struct Pooled<'a> {
    decoder: &'a Decoder,
    score: Tensor<2>,
}

/// What limits the rows of tokens that a network reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimits {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// The longest sequence that can be computed, in tokens, where there is a limit.
    pub positions: Option<usize>,
    /// The longest sequence the model was trained on, in tokens, where longer ones are computed with positions that it
    /// never saw.
    pub unscaled_positions: Option<usize>,
}

/// The blocks of a network that follow each other, for callers that run them one by one.
#[derive(Debug, Clone, Copy)]
pub struct Stack<'a> {
    /// Our path of the list; a block's path adds its index.
    pub path: &'static str,
    /// The blocks.
    pub blocks: &'a [Block],
}

impl Stack<'_> {
    /// Our path of a block.
    pub fn path_of(&self, index: usize) -> String {
        crate::parameters::join(self.path, &index.to_string())
    }
}

impl Network {
    /// The network as a predictor of tokens, if it is one.
    pub fn predictor(&self) -> Option<Predictor<'_>> {
        match self {
            Self::Decoder(decoder) => decoder.config().classes.is_none().then_some(Predictor::Decoder(decoder)),
            Self::Towers(_) | Self::Diffusion(_) => None,
        }
    }

    /// The network as a sequence classifier, if it is one.
    pub fn pooled(&self) -> Option<Pooled<'_>> {
        match self {
            Self::Decoder(decoder) => Some(Pooled { decoder, score: decoder.score()? }),
            Self::Towers(_) | Self::Diffusion(_) => None,
        }
    }

    /// What limits the rows of tokens that the network reads, if it reads such rows.
    pub fn token_limits(&self) -> Option<TokenLimits> {
        match self {
            Self::Decoder(decoder) => {
                let config = decoder.config();
                Some(TokenLimits {
                    vocab_size: config.vocab_size,
                    positions: config.position_limit(),
                    unscaled_positions: config.unscaled_positions(),
                })
            }
            Self::Towers(_) | Self::Diffusion(_) => None,
        }
    }

    /// The network as two towers, if it is that.
    pub fn towers(&self) -> Option<&Towers> {
        match self {
            Self::Towers(towers) => Some(towers),
            Self::Decoder(_) | Self::Diffusion(_) => None,
        }
    }

    /// The network as one that makes pictures out of noise, if it is that.
    pub fn denoiser(&self) -> Option<&Diffusion> {
        match self {
            Self::Diffusion(diffusion) => Some(diffusion),
            Self::Decoder(_) | Self::Towers(_) => None,
        }
    }
}

impl<'a> Predictor<'a> {
    fn decoder(self) -> &'a Decoder {
        let Self::Decoder(decoder) = self;
        decoder
    }

    /// The hidden states that the head reads, `[batch, time, width]`; an adapter of the head widens them by its rank.
    pub fn hidden(self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        self.decoder().forward(inputs, mode)
    }

    /// As [`Self::hidden`], with a given context.
    pub fn hidden_with(self, inputs: &Inputs, context: &Context) -> Tensor<3> {
        self.decoder().forward_with(inputs, context)
    }

    /// As [`Self::hidden`] in inference, for tokens that continue the sequence in `cache`.
    pub fn hidden_cached(self, inputs: &Inputs, cache: &mut Cache) -> Tensor<3> {
        self.decoder().forward_cached(inputs, cache)
    }

    /// An empty cache.
    pub fn cache(self) -> Cache {
        Cache::new(self.decoder().layers().len())
    }

    /// The output head.
    pub fn head(self) -> Head {
        self.decoder().head()
    }

    /// Numbers of a hidden state.
    pub fn width(self) -> usize {
        self.decoder().config().block.width
    }

    /// Number of tokens in the vocabulary.
    pub fn vocab_size(self) -> usize {
        self.decoder().config().vocab_size
    }

    /// The longest sequence that can be computed, in tokens, where there is a limit.
    pub fn position_limit(self) -> Option<usize> {
        self.decoder().config().position_limit()
    }

    /// The longest sequence the model was trained on, in tokens, where longer ones are computed with positions that it
    /// never saw.
    pub fn unscaled_positions(self) -> Option<usize> {
        self.decoder().config().unscaled_positions()
    }

    /// The longest sequence the model was made for, in tokens.
    pub fn max_positions(self) -> usize {
        self.decoder().config().max_positions
    }

    /// The sequence length after which a cache becomes useless, where there is one.
    pub fn positions_change_after(self) -> Option<usize> {
        self.decoder().config().positions_change_after()
    }

    /// What the blocks share for this batch.
    pub fn context(self, inputs: &Inputs, mode: Mode) -> Context {
        self.decoder().context(inputs, mode)
    }

    /// Embedded tokens `[batch, time, width]`, the input of the first block.
    pub fn embed(self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        self.decoder().embed(inputs, mode)
    }

    /// The blocks.
    pub fn stack(self) -> Stack<'a> {
        Stack { path: "layers", blocks: self.decoder().layers() }
    }

    /// Turns the output of the last block, `[batch, time, width]`, into the hidden states that the head reads.
    pub fn finish(self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        self.decoder().finish(x, mode)
    }

    /// The device of the parameters.
    pub fn device(self) -> Device {
        self.decoder().device()
    }
}

impl<'a> Pooled<'a> {
    /// What the blocks share for this batch.
    pub fn context(&self, inputs: &Inputs, mode: Mode) -> Context {
        self.decoder.context(inputs, mode)
    }

    /// Embedded tokens `[batch, time, width]`, the input of the first block.
    pub fn embed(&self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        self.decoder.embed(inputs, mode)
    }

    /// The blocks.
    pub fn stack(&self) -> Stack<'a> {
        Stack { path: "layers", blocks: self.decoder.layers() }
    }

    /// Turns the output of the last block, `[batch, time, width]`, into the hidden states at which texts are read.
    pub fn finish(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        self.decoder.finish(x, mode)
    }

    /// The hidden states at which texts are read, `[batch, time, width]`.
    pub fn hidden(&self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        self.decoder.forward(inputs, mode)
    }

    /// The scores `[texts, classes]` of features `[texts, width]`.
    pub fn scores(&self, features: Tensor<2>) -> Tensor<2> {
        linear(features, self.score.clone(), Precision::F32)
    }

    /// The place in a text at which it is read.
    pub fn place(&self, ids: impl DoubleEndedIterator<Item = i64> + ExactSizeIterator) -> usize {
        let padding = self.decoder.config().padding.map(|id| id as i64);
        let mut places = ids.enumerate();
        // The first token where all are padding: the reference's argmax of zeros.
        places.rfind(|(_, id)| Some(*id) != padding).map_or(0, |(place, _)| place)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.score.dims()[0]
    }
}

impl Towers {
    /// The blocks of the text tower.
    pub fn text_stack(&self) -> Stack<'_> {
        Stack { path: "text.layers", blocks: self.text().layers() }
    }

    /// The blocks of the image tower.
    pub fn vision_stack(&self) -> Stack<'_> {
        Stack { path: "vision.layers", blocks: self.vision().layers() }
    }
}
