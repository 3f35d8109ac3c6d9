//! [`Attention`]: grouped-query self-attention (Ainslie et al. 2023, arXiv:2305.13245).

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::{Linear, Mode};
use firebrand_kernels::{AttentionOptions, Precision, attention};

use super::maps::maps;
use super::{AttentionConfig, BlockConfig, Context, LayerCache, Norm, PositionConfig, QkNorm, Qkv};
use crate::parameters::{ParameterSource, Role, linear_from, under};

/// Self-attention: its projections, and what happens between them and the attention kernel.
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
    /// Index of its rotary table in the context; absent: no rotary positions.
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
    /// Reads the projections of layer `layer`, counted from zero.
    pub fn new(config: &BlockConfig, layer: usize, source: &mut dyn ParameterSource) -> Self {
        let AttentionConfig { heads, kv_heads, head_dim, output_bias, .. } = config.attention;
        let qkv = Qkv::new(&config.attention, config.width, config.initials.qkv, &mut under(source, "qkv"));
        let qk_norm = config.attention.qk_norm.map(|over| {
            let (q, k) = match over {
                QkNorm::EachHead => (head_dim, head_dim),
                QkNorm::WholeProjection => (heads * head_dim, kv_heads * head_dim),
            };
            let source = &mut under(source, "qk_norm");
            let mut norm = |name: &str, width| Norm::new(config.norm, width, &mut under(source, name));
            QkNorms { q: norm("q", q), k: norm("k", k), over }
        });
        let alibi = match &config.position {
            PositionConfig::Alibi(alibi) => Some(alibi.clone()),
            PositionConfig::Rope { .. } | PositionConfig::RopeByLayer { .. } | PositionConfig::Learned { .. } => None,
        };
        Self {
            qkv,
            qk_norm,
            output: linear_from(
                source,
                "output",
                [config.width, heads * head_dim],
                output_bias,
                Role::Map,
                config.initials.output,
            ),
            heads,
            head_dim,
            clip: config.attention.clip,
            rope: config.position.rope_at(layer),
            options: AttentionOptions {
                scale: config.attention.scale.at(layer),
                sight: config.attention.sight.at(layer),
                softcap: config.attention.softcap,
                alibi,
                precision: Precision::F32,
            },
        }
    }

    /// Sets in which numbers the products of queries, keys and values read their operands; f32 if it is never called.
    pub fn set_precision(&mut self, precision: Precision) {
        self.options.precision = precision;
    }

    /// `[batch, time, width]` to the same shape; with a cache, `x` holds only the new tokens.
    pub fn forward(&self, x: Tensor<3>, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let [batch, time, _] = x.dims();
        let (q, k, v) = self.project(x, context.mode);
        let (q, k) = (context.position.apply(q, self.rope), context.position.apply(k, self.rope));
        let (k, v) = match cache {
            Some(cache) => cache.extend(k, v),
            None => (k, v),
        };
        let mixed = attention(q, k, v, context.segments.clone(), &self.options);
        self.output.forward(mixed.reshape([batch, time, self.heads * self.head_dim]), context.mode)
    }

    /// q, k and v, each `[batch, time, its heads, head_dim]`, before positions are applied.
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
}

maps!(Attention { qkv, output });

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
