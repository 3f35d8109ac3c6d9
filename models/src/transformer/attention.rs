//! Causal grouped-query self-attention (Ainslie et al. 2023, arXiv:2305.13245).

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::{Linear, Mode};
use firebrand_kernels::{AttentionOptions, attention};

use super::{AttentionConfig, Context, LayerCache, Window};
use crate::parameters::{ParameterSource, linear};

/// Projections around the attention kernel.
#[derive(Module, Debug)]
pub struct Attention {
    qkv: Qkv,
    output: Linear,
    #[module(skip)]
    config: AttentionConfig,
}

/// How the files lay out the query, key and value projections.
#[derive(Module, Debug)]
pub enum Qkv {
    /// Three matrices.
    Split(SplitQkv),
}

/// Separate projections for q, k and v.
#[derive(Module, Debug)]
pub struct SplitQkv {
    q: Linear,
    k: Linear,
    v: Linear,
}

impl Attention {
    /// Reads the projections under `path` for a residual stream of `width`.
    pub fn new(config: &AttentionConfig, width: usize, path: &str, source: &mut dyn ParameterSource) -> Self {
        let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let mut read = |name: &str, shape, bias| linear(source, &format!("{path}.{name}"), shape, bias);
        Self {
            qkv: Qkv::Split(SplitQkv {
                q: read("qkv.q", [query, width], config.qkv_bias),
                k: read("qkv.k", [key, width], config.qkv_bias),
                v: read("qkv.v", [key, width], config.qkv_bias),
            }),
            output: read("output", [width, query], config.output_bias),
            config: config.clone(),
        }
    }

    /// `[batch, time, width]` to the same; with a cache, `x` holds the new tokens only.
    pub fn forward(&self, x: Tensor<3>, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let [batch, time, _] = x.dims();
        let (q, k, v) = self.qkv.forward(x, context.mode);
        let heads = |x: Tensor<3>, count| x.reshape([batch, time, count, self.config.head_dim]);
        let q = context.position.apply(heads(q, self.config.heads));
        let k = context.position.apply(heads(k, self.config.kv_heads));
        let v = heads(v, self.config.kv_heads);
        let (k, v) = match cache {
            Some(cache) => cache.extend(k, v),
            None => (k, v),
        };
        let segments = context.segments.clone().map(|segments| (segments.clone(), segments));
        let mixed = attention(q, k, v, segments, &self.config.options());
        self.output.forward(mixed.reshape([batch, time, self.config.heads * self.config.head_dim]), context.mode)
    }

    /// The linear maps with their names below the attention.
    pub(super) fn linears_mut(&mut self) -> Vec<(&'static str, &mut Linear)> {
        let mut linears = self.qkv.linears_mut();
        linears.push(("output", &mut self.output));
        linears
    }
}

impl Qkv {
    fn forward(&self, x: Tensor<3>, mode: Mode) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
        match self {
            Self::Split(SplitQkv { q, k, v }) => {
                (q.forward(x.clone(), mode), k.forward(x.clone(), mode), v.forward(x, mode))
            }
        }
    }

    fn linears_mut(&mut self) -> Vec<(&'static str, &mut Linear)> {
        match self {
            Self::Split(SplitQkv { q, k, v }) => vec![("qkv.q", q), ("qkv.k", k), ("qkv.v", v)],
        }
    }
}

impl AttentionConfig {
    fn options(&self) -> AttentionOptions {
        let window = match self.window {
            Window::Full => None,
        };
        AttentionOptions { scale: self.scale, window, softcap: None, alibi: None }
    }
}
