//! Views of a network: [`Predictor`], [`Pooled`] and others are what objectives and inference read, whatever the kind of network.
//!
//! Some kinds have a view and others do not. Code that needs a view asks for it and knows no kind. So a new kind that
//! has a view works at once with all code written for it.

use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrand_adapters::Mode;
use firebrand_kernels::{Precision, linear};

use crate::decoder::{Decoder, Head};
use crate::diffusion::Diffusion;
use crate::image::{ImageEncoder, Pixels};
use crate::network::Network;
use crate::parts::{Block, Cache, Context, Inputs};
use crate::towers::Towers;

/// A view of a network that predicts the next token: its hidden states and its head.
#[derive(Debug, Clone, Copy)]
pub enum Predictor<'a> {
    /// A decoder.
    Decoder(&'a Decoder),
}

/// A view of a network that reads a text or an image as one row of features and scores it.
///
/// The features of a text are the hidden state at its last token that is not padding. Padding is known *by its id*, as in
/// the reference: a text that ends with that id is read before it. Those of an image are the class state and the mean of the
/// patches' states.
#[derive(Debug, Clone, Copy)]
pub enum Pooled<'a> {
    /// A sequence classifier.
    Texts(&'a Decoder),
    /// An image classifier.
    Images(&'a ImageEncoder),
}

/// What a [`Pooled`] reads at once.
#[derive(Debug, Clone)]
pub enum PooledInputs {
    /// Texts, and the places where they are read, as indices into the flattened `[batch * time]` positions.
    Texts(Inputs, Vec<i32>),
    /// Images of one size.
    Images(Pixels),
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
            Self::Towers(_) | Self::Image(_) | Self::Diffusion(_) => None,
        }
    }

    /// The network as a classifier of texts or images, if it is one.
    pub fn pooled(&self) -> Option<Pooled<'_>> {
        match self {
            Self::Decoder(decoder) => decoder.config().classes.map(|_| Pooled::Texts(decoder)),
            Self::Image(image) => image.config().classes.map(|_| Pooled::Images(image)),
            Self::Towers(_) | Self::Diffusion(_) => None,
        }
    }

    /// The network over images, if it is one.
    pub fn image(&self) -> Option<&ImageEncoder> {
        match self {
            Self::Image(image) => Some(image),
            Self::Decoder(_) | Self::Towers(_) | Self::Diffusion(_) => None,
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
            Self::Towers(_) | Self::Image(_) | Self::Diffusion(_) => None,
        }
    }

    /// The network as two towers, if it is that.
    pub fn towers(&self) -> Option<&Towers> {
        match self {
            Self::Towers(towers) => Some(towers),
            Self::Decoder(_) | Self::Image(_) | Self::Diffusion(_) => None,
        }
    }

    /// The network as one that makes pictures out of noise, if it is that.
    pub fn denoiser(&self) -> Option<&Diffusion> {
        match self {
            Self::Diffusion(diffusion) => Some(diffusion),
            Self::Decoder(_) | Self::Towers(_) | Self::Image(_) => None,
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
    /// What the blocks share for these inputs.
    pub fn context(self, inputs: &PooledInputs, mode: Mode) -> Context {
        match (self, inputs) {
            (Self::Texts(decoder), PooledInputs::Texts(inputs, _)) => decoder.context(inputs, mode),
            (Self::Images(image), PooledInputs::Images(_)) => image.context(mode),
            (Self::Texts(_), PooledInputs::Images(_)) | (Self::Images(_), PooledInputs::Texts(..)) => other_inputs(),
        }
    }

    /// Embedded tokens or patches `[batch, time, width]`, the input of the first block.
    pub fn embed(self, inputs: &PooledInputs, mode: Mode) -> Tensor<3> {
        match (self, inputs) {
            (Self::Texts(decoder), PooledInputs::Texts(inputs, _)) => decoder.embed(inputs, mode),
            (Self::Images(image), PooledInputs::Images(pixels)) => image.embed(pixels.tensor(&image.device())),
            (Self::Texts(_), PooledInputs::Images(_)) | (Self::Images(_), PooledInputs::Texts(..)) => other_inputs(),
        }
    }

    /// The blocks.
    pub fn stack(self) -> Stack<'a> {
        let blocks = match self {
            Self::Texts(decoder) => decoder.layers(),
            Self::Images(image) => image.layers(),
        };
        Stack { path: "layers", blocks }
    }

    /// The scores `[texts or images, classes]`, given the output of the last block, `[batch, time, width]`.
    pub fn finish(self, x: Tensor<3>, inputs: &PooledInputs, mode: Mode) -> Tensor<2> {
        match (self, inputs) {
            (Self::Texts(decoder), PooledInputs::Texts(_, places)) => {
                let features = at(decoder.finish(x, mode), places);
                let score = decoder.score().unwrap_or_else(|| no_head());
                linear(features, score, Precision::F32)
            }
            (Self::Images(image), PooledInputs::Images(_)) => {
                image.scores(image.features(image.finish(x))).unwrap_or_else(|| no_head())
            }
            (Self::Texts(_), PooledInputs::Images(_)) | (Self::Images(_), PooledInputs::Texts(..)) => other_inputs(),
        }
    }

    /// The scores `[texts or images, classes]`.
    pub fn scores(self, inputs: &PooledInputs, mode: Mode) -> Tensor<2> {
        let context = self.context(inputs, mode);
        let blocks = self.stack().blocks.iter();
        let x = blocks.fold(self.embed(inputs, mode), |x, block| block.forward(x, &context, None));
        self.finish(x, inputs, mode)
    }

    /// The place in a text at which it is read; an image is read whole.
    pub fn place(self, ids: impl DoubleEndedIterator<Item = i64> + ExactSizeIterator) -> usize {
        let padding = match self {
            Self::Texts(decoder) => decoder.config().padding.map(|id| id as i64),
            Self::Images(_) => None,
        };
        let mut places = ids.enumerate();
        // The first token where all are padding: the reference's argmax of zeros.
        places.rfind(|(_, id)| Some(*id) != padding).map_or(0, |(place, _)| place)
    }
}

/// The caller has checked that the rows are those of the network.
fn other_inputs() -> ! {
    panic!("texts for a classifier of images, or images for one of texts")
}

/// The view exists only where there is a head.
fn no_head() -> ! {
    panic!("a classifier without a head")
}

/// The states at `places` of `[batch, time, width]`, as `[places, width]`.
fn at(states: Tensor<3>, places: &[i32]) -> Tensor<2> {
    let [batch, time, width] = states.dims();
    let places = TensorData::new(places.to_vec(), [places.len()]);
    let places = Tensor::<1, Int>::from_data(places, &states.device());
    states.reshape([batch * time, width]).select(0, places)
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
