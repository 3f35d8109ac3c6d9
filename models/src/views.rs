//! What objectives and inference read of a network, whatever its kind.
//!
//! A view is had by some kinds and not by others. What needs a view asks for it and knows no kind; so a new kind that has one can
//! do at once all that is written for it.

use burn::tensor::{Device, Tensor};
use firebrand_adapters::Mode;

use crate::decoder::{Decoder, Head};
use crate::network::Network;
use crate::parts::{Block, Cache, Context, Inputs};
use crate::towers::Towers;

/// A network that predicts the next token: hidden states, and a head that makes predictions of them.
#[derive(Debug, Clone, Copy)]
pub enum Predictor<'a> {
    /// A decoder.
    Decoder(&'a Decoder),
}

/// The blocks of a network that follow each other, for callers that drive them one by one.
#[derive(Debug, Clone, Copy)]
pub struct Stack<'a> {
    /// Our path of the list; that of a block has its number behind it.
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
    /// It as one that predicts tokens, if it does.
    pub fn predictor(&self) -> Option<Predictor<'_>> {
        match self {
            Self::Decoder(decoder) => Some(Predictor::Decoder(decoder)),
            Self::Towers(_) => None,
        }
    }

    /// It as two towers into one space, if it is.
    pub fn towers(&self) -> Option<&Towers> {
        match self {
            Self::Towers(towers) => Some(towers),
            Self::Decoder(_) => None,
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

    /// The same in a context of the caller's.
    pub fn hidden_with(self, inputs: &Inputs, context: &Context) -> Tensor<3> {
        self.decoder().forward_with(inputs, context)
    }

    /// The same in inference for one more piece of the sequence in `cache`.
    pub fn hidden_cached(self, inputs: &Inputs, cache: &mut Cache) -> Tensor<3> {
        self.decoder().forward_cached(inputs, cache)
    }

    /// A cache of nothing yet.
    pub fn cache(self) -> Cache {
        Cache::new(self.decoder().layers().len())
    }

    /// The output head.
    pub fn head(self) -> Head {
        self.decoder().head()
    }

    /// Tokens that there are.
    pub fn vocab_size(self) -> usize {
        self.decoder().config().vocab_size
    }

    /// The longest sequence that can be computed at all, where there is a limit.
    pub fn position_limit(self) -> Option<usize> {
        self.decoder().config().position_limit()
    }

    /// The longest sequence the model was made for, in tokens.
    pub fn max_positions(self) -> usize {
        self.decoder().config().max_positions
    }

    /// The length after which what a cache holds is worth nothing, where there is one.
    pub fn positions_change_after(self) -> Option<usize> {
        self.decoder().config().positions_change_after()
    }

    /// What the blocks share for this batch.
    pub fn context(self, inputs: &Inputs, mode: Mode) -> Context {
        self.decoder().context(inputs, mode)
    }

    /// What leads into the blocks: embedded tokens `[batch, time, width]`.
    pub fn embed(self, inputs: &Inputs, mode: Mode) -> Tensor<3> {
        self.decoder().embed(inputs, mode)
    }

    /// The blocks.
    pub fn stack(self) -> Stack<'a> {
        Stack { path: "layers", blocks: self.decoder().layers() }
    }

    /// What follows the blocks: `[batch, time, width]` to the hidden states that the head reads.
    pub fn finish(self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        self.decoder().finish(x, mode)
    }

    /// Where the parameters are.
    pub fn device(self) -> Device {
        self.decoder().device()
    }
}

impl Towers {
    /// The blocks of the tower of texts.
    pub fn text_stack(&self) -> Stack<'_> {
        Stack { path: "text.layers", blocks: self.text().layers() }
    }

    /// The blocks of the tower of pictures.
    pub fn vision_stack(&self) -> Stack<'_> {
        Stack { path: "vision.layers", blocks: self.vision().layers() }
    }
}
