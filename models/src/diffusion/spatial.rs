//! [`SpatialTransformer`]: transformer blocks over the pixels of an image, which also see a text.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::{Linear, Mode};
use firebrand_kernels::{Activation, AttentionOptions, Precision, Sight, attention, gated, split_columns};

use super::deviation::deviation;
use super::group_norm::{GroupNorm, GroupNormConfig};
use crate::parameters::{Initial, ParameterSource, Role, linear_from, under};
use crate::parts::{Affine, Norm, NormConfig, maps};

/// Sizes and variants of a [`SpatialTransformer`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpatialConfig {
    /// Number of blocks.
    pub layers: usize,
    /// Number of heads; it divides the number of channels.
    pub heads: usize,
    /// Width of the states of the text.
    pub text: usize,
    /// The norm before the blocks.
    pub norm: GroupNormConfig,
    /// Whether the maps in front of the blocks and behind them are convolutions of one pixel in files.
    pub pointwise: bool,
}

/// The norms in the blocks.
const NORM: NormConfig = NormConfig::Layer { eps: 1e-5, affine: Affine::WeightAndBias };
/// Width of a block's MLP, by that of the stream.
const WIDER: usize = 4;

/// `x + output(blocks(input(norm(x))))`, where a pixel is a token.
#[derive(Module, Debug)]
pub struct SpatialTransformer {
    norm: GroupNorm,
    input: Linear,
    layers: Vec<CrossBlock>,
    output: Linear,
}

maps!(SpatialTransformer { input, layers, output });

impl SpatialTransformer {
    /// Reads one for `channels` channels.
    pub fn new(config: SpatialConfig, channels: usize, source: &mut dyn ParameterSource) -> Self {
        let role = if config.pointwise { Role::Pointwise } else { Role::Map };
        let map = |name: &str, source: &mut dyn ParameterSource| {
            let initial = Initial::NormalWith(deviation(channels));
            linear_from(source, name, [channels, channels], true, role, initial)
        };
        let norm = GroupNorm::new(config.norm, channels, &mut under(source, "norm"));
        let input = map("input", source);
        let layer = |layer| CrossBlock::new(config, channels, &mut under(source, format!("layers.{layer}")));
        let layers = (0..config.layers).map(layer).collect();
        Self { norm, input, layers, output: map("output", source) }
    }

    pub(super) fn set_precision(&mut self, precision: Precision) {
        for layer in &mut self.layers {
            layer.own.options.precision = precision;
            layer.cross.options.precision = precision;
        }
    }

    /// `[batch, channels, height, width]` to the same shape; `text` is `[batch, tokens, width]`.
    pub fn forward(&self, x: Tensor<4>, text: &Tensor<3>, mode: Mode) -> Tensor<4> {
        let shape = x.dims();
        let pixels = self.input.forward(tokens(self.norm.forward(x.clone())), mode);
        let pixels = self.layers.iter().fold(pixels, |pixels, layer| layer.forward(pixels, text, mode));
        x + image(self.output.forward(pixels, mode), shape)
    }
}

/// `[batch, channels, height, width]` as `[batch, height * width, channels]`.
pub(super) fn tokens(x: Tensor<4>) -> Tensor<3> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).swap_dims(1, 2)
}

/// `[batch, height * width, channels]` as an image of that shape.
pub(super) fn image(x: Tensor<3>, shape: [usize; 4]) -> Tensor<4> {
    x.swap_dims(1, 2).reshape(shape)
}

/// Attention among pixels, attention to the text, and a gated MLP, each behind a norm and beside the stream.
#[derive(Module, Debug)]
pub struct CrossBlock {
    norm_own: Norm,
    own: CrossAttention,
    norm_cross: Norm,
    cross: CrossAttention,
    norm_mlp: Norm,
    mlp: GatedMlp,
}

maps!(CrossBlock { own, cross, mlp });

impl CrossBlock {
    fn new(config: SpatialConfig, width: usize, source: &mut dyn ParameterSource) -> Self {
        Self {
            norm_own: Norm::new(NORM, width, &mut under(source, "norm_own")),
            own: CrossAttention::new(config.heads, [width, width], false, &mut under(source, "own")),
            norm_cross: Norm::new(NORM, width, &mut under(source, "norm_cross")),
            cross: CrossAttention::new(config.heads, [width, config.text], false, &mut under(source, "cross")),
            norm_mlp: Norm::new(NORM, width, &mut under(source, "norm_mlp")),
            mlp: GatedMlp::new(width, &mut under(source, "mlp")),
        }
    }

    fn forward(&self, x: Tensor<3>, text: &Tensor<3>, mode: Mode) -> Tensor<3> {
        let own = self.norm_own.forward(x.clone());
        let x = x + self.own.forward(own.clone(), own, mode);
        let x = x.clone() + self.cross.forward(self.norm_cross.forward(x), text.clone(), mode);
        x.clone() + self.mlp.forward(self.norm_mlp.forward(x), mode)
    }
}

/// Attention of a stream to another one, or to itself.
#[derive(Module, Debug)]
pub struct CrossAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    output: Linear,
    #[module(skip)]
    options: AttentionOptions,
    #[module(skip)]
    heads: usize,
}

maps!(CrossAttention { q, k, v, output });

impl CrossAttention {
    /// Reads the maps for a stream of one width that sees one of the other; `bias` is that of q, k and v.
    pub(super) fn new(heads: usize, [width, seen]: [usize; 2], bias: bool, source: &mut dyn ParameterSource) -> Self {
        let mut map = |name: &str, inputs: usize, bias: bool| {
            linear_from(source, name, [width, inputs], bias, Role::Map, Initial::NormalWith(deviation(inputs)))
        };
        Self {
            q: map("q", width, bias),
            k: map("k", seen, bias),
            v: map("v", seen, bias),
            output: map("output", width, true),
            options: AttentionOptions {
                scale: ((width / heads) as f64).powf(-0.5),
                sight: Sight::Full,
                softcap: None,
                alibi: None,
                precision: Precision::F32,
            },
            heads,
        }
    }

    /// `x` is `[batch, time, width]`, `seen` `[batch, seen time, seen width]`; the result has the shape of `x`.
    pub(super) fn forward(&self, x: Tensor<3>, seen: Tensor<3>, mode: Mode) -> Tensor<3> {
        let shape = x.dims();
        let heads = |x: Tensor<3>| {
            let [batch, time, width] = x.dims();
            x.reshape([batch, time, self.heads, width / self.heads])
        };
        let (q, k) = (heads(self.q.forward(x, mode)), heads(self.k.forward(seen.clone(), mode)));
        let v = heads(self.v.forward(seen, mode));
        self.output.forward(attention(q, k, v, None, &self.options).reshape(shape), mode)
    }
}

/// `down(gelu(gate) * up)`, where one matrix holds the rows of `up` and then those of `gate` (GEGLU; Shazeer 2020,
/// arXiv:2002.05202).
#[derive(Module, Debug)]
pub struct GatedMlp {
    up_gate: Linear,
    down: Linear,
}

maps!(GatedMlp { up_gate, down });

impl GatedMlp {
    fn new(width: usize, source: &mut dyn ParameterSource) -> Self {
        let inner = WIDER * width;
        let mut map = |name: &str, shape: [usize; 2]| {
            linear_from(source, name, shape, true, Role::Map, Initial::NormalWith(deviation(shape[1])))
        };
        Self { up_gate: map("up_gate", [2 * inner, width]), down: map("down", [width, inner]) }
    }

    fn forward(&self, x: Tensor<3>, mode: Mode) -> Tensor<3> {
        let both = self.up_gate.forward(x, mode);
        let [batch, time, width] = both.dims();
        let halves = split_columns(both.reshape([batch * time, width]), &[width / 2; 2]);
        let mut halves = halves.into_iter().map(|half| half.reshape([batch, time, width / 2]));
        let (Some(up), Some(gate)) = (halves.next(), halves.next()) else { unreachable!("two halves") };
        self.down.forward(gated(gate, up, Activation::GeluExact), mode)
    }
}
