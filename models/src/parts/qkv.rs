//! [`Qkv`]: the projections to queries, keys and values, laid out as in files.
//!
//! A fused matrix stays one matrix, and its result is split. So a checkpoint is written as it was read, an adapter on
//! `query_key_value` means the same here and in PEFT, and one product replaces three.

use burn::module::Module;
use burn::tensor::Tensor;
use firebrand_adapters::{Linear, Mode};
use firebrand_kernels::split_columns;

use super::maps::maps;
use super::{AttentionConfig, FusedLayout, QkvLayout};
use crate::parameters::{Initial, ParameterSource, Role, linear_from};

/// The projections to q, k and v.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "one a layer, and handles to tensors: hundreds of bytes are nothing")]
pub enum Qkv {
    /// Three separate matrices.
    Split(SplitQkv),
    /// One matrix.
    Fused(FusedQkv),
}

/// Separate projections for q, k and v.
#[derive(Module, Debug)]
pub struct SplitQkv {
    q: Linear,
    k: Linear,
    v: Linear,
}

/// One projection whose result is split into q, k and v.
#[derive(Module, Debug)]
pub struct FusedQkv {
    fused: Linear,
    #[module(skip)]
    kv_heads: usize,
    #[module(skip)]
    layout: FusedLayout,
}

impl Qkv {
    /// Reads the projections for a residual stream of `width`.
    pub fn new(config: &AttentionConfig, width: usize, initial: Initial, source: &mut dyn ParameterSource) -> Self {
        let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let mut read = |name: &str, rows| linear_from(source, name, [rows, width], config.qkv_bias, Role::Map, initial);
        match config.layout {
            QkvLayout::Split => Self::Split(SplitQkv { q: read("q", query), k: read("k", key), v: read("v", key) }),
            QkvLayout::Fused(layout) => {
                Self::Fused(FusedQkv { fused: read("fused", query + 2 * key), kv_heads: config.kv_heads, layout })
            }
        }
    }

    /// `[batch, time, width]` to q, k and v, each `[batch, time, its heads, head_dim]`.
    pub fn forward(&self, x: Tensor<3>, head_dim: usize, mode: Mode) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let [batch, time, _] = x.dims();
        let heads = |x: Tensor<3>| {
            let heads = x.dims()[2] / head_dim;
            x.reshape([batch, time, heads, head_dim])
        };
        match self {
            Self::Split(SplitQkv { q, k, v }) => {
                (heads(q.forward(x.clone(), mode)), heads(k.forward(x.clone(), mode)), heads(v.forward(x, mode)))
            }
            Self::Fused(FusedQkv { fused, kv_heads, layout }) => {
                let all = heads(fused.forward(x, mode));
                match layout {
                    FusedLayout::Consecutive => consecutive(all, *kv_heads),
                    FusedLayout::Grouped => grouped(all, *kv_heads),
                }
            }
        }
    }
}

maps!(
    enum Qkv {
        Split,
        Fused,
    }
);
maps!(SplitQkv { q, k, v });
maps!(FusedQkv { fused });

fn consecutive(all: Tensor<4>, kv_heads: usize) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
    let heads = all.dims()[2];
    split(all, 1, [heads - 2 * kv_heads, kv_heads, kv_heads])
}

fn grouped(all: Tensor<4>, kv_heads: usize) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
    let group = all.dims()[2] / kv_heads;
    split(all, kv_heads, [group - 2, 1, 1])
}

/// Of each of so many groups of heads the first, the next and the last ones.
fn split(all: Tensor<4>, groups: usize, heads: [usize; 3]) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
    let [batch, time, whole, head_dim] = all.dims();
    let rows = all.reshape([batch * time * groups, whole / groups * head_dim]);
    let mut parts = split_columns(rows, &heads.map(|heads| heads * head_dim)).into_iter().zip(heads);
    let mut next = || match parts.next() {
        Some((part, heads)) => part.reshape([batch, time, groups * heads, head_dim]),
        None => unreachable!("a part for each size"),
    };
    (next(), next(), next())
}
