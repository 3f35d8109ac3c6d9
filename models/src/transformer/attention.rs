//! Causal grouped-query self-attention (Ainslie et al. 2023, arXiv:2305.13245).

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::{Linear, Mode};
use firebrand_kernels::{AttentionOptions, attention};

use super::{AttentionConfig, Context, DecoderConfig, LayerCache, Norm, PositionConfig, QkNorm, Qkv};
use crate::parameters::{ParameterSource, linear};

/// Projections around the attention kernel.
#[derive(Module, Debug)]
pub struct Attention {
    qkv: Qkv,
    qk_norm: Option<QkNorms>,
    output: Linear,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    head_dim: usize,
    #[module(skip)]
    clip: Option<f64>,
    /// Which rotary table of the context.
    #[module(skip)]
    rope: Option<usize>,
    #[module(skip)]
    options: AttentionOptions,
}

/// Norms on q and k.
#[derive(Module, Debug)]
pub struct QkNorms {
    q: Norm,
    k: Norm,
    #[module(skip)]
    over: QkNorm,
}

impl Attention {
    /// Reads the projections of layer `layer` under `path`.
    pub fn new(config: &DecoderConfig, layer: usize, path: &str, source: &mut dyn ParameterSource) -> Self {
        let AttentionConfig { heads, kv_heads, head_dim, output_bias, .. } = config.attention;
        let qk_norm = config.attention.qk_norm.map(|over| {
            let (q, k) = match over {
                QkNorm::EachHead => (head_dim, head_dim),
                QkNorm::WholeProjection => (heads * head_dim, kv_heads * head_dim),
            };
            let mut norm = |name: &str, width| Norm::new(config.norm, width, &format!("{path}.qk_norm.{name}"), source);
            QkNorms { q: norm("q", q), k: norm("k", k), over }
        });
        let alibi = match &config.position {
            PositionConfig::Alibi(alibi) => Some(alibi.clone()),
            PositionConfig::Rope { .. } | PositionConfig::RopeByLayer { .. } | PositionConfig::Learned { .. } => None,
        };
        Self {
            qkv: Qkv::new(&config.attention, config.hidden_size, &format!("{path}.qkv"), source),
            qk_norm,
            output: linear(source, &format!("{path}.output"), [config.hidden_size, heads * head_dim], output_bias),
            heads,
            head_dim,
            clip: config.attention.clip,
            rope: config.position.rope_at(layer),
            options: AttentionOptions {
                scale: config.attention.scale.at(layer),
                window: config.attention.window.at(layer),
                softcap: config.attention.softcap,
                alibi,
            },
        }
    }

    /// `[batch, time, hidden_size]` to the same; with a cache, `x` holds the new tokens only.
    pub fn forward(&self, x: Tensor<3>, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let [batch, time, _] = x.dims();
        let (q, k, v) = self.project(x, context.mode);
        let (q, k) = (context.position.apply(q, self.rope), context.position.apply(k, self.rope));
        let (k, v) = match cache {
            Some(cache) => cache.extend(k, v),
            None => (k, v),
        };
        let segments = context.segments.clone().map(|segments| (segments.clone(), segments));
        let mixed = attention(q, k, v, segments, &self.options);
        self.output.forward(mixed.reshape([batch, time, self.heads * self.head_dim]), context.mode)
    }

    /// q, k and v, each `[batch, time, its heads, head_dim]`, before the positions.
    fn project(&self, x: Tensor<3>, mode: Mode) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let (q, k, v) = self.qkv.forward(x, self.head_dim, mode);
        let (q, k, v) = match self.clip {
            Some(clip) => (q.clamp(-clip, clip), k.clamp(-clip, clip), v.clamp(-clip, clip)),
            None => (q, k, v),
        };
        match &self.qk_norm {
            Some(norms) => (norms.apply(&norms.q, q), norms.apply(&norms.k, k), v),
            None => (q, k, v),
        }
    }

    /// The linear maps with their names below the attention.
    pub(super) fn linears_mut(&mut self) -> Vec<(&'static str, &mut Linear)> {
        let mut linears = self.qkv.linears_mut();
        linears.push(("output", &mut self.output));
        linears
    }
}

impl QkNorms {
    fn apply(&self, norm: &Norm, x: Tensor<4>) -> Tensor<4> {
        match self.over {
            QkNorm::EachHead => norm.forward_heads(x),
            QkNorm::WholeProjection => {
                let [batch, time, heads, head_dim] = x.dims();
                norm.forward(x.reshape([batch, time, heads * head_dim])).reshape([batch, time, heads, head_dim])
            }
        }
    }
}
