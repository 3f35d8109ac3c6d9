//! Grouped-query attention over packed rows, in tiles.
//!
//! The scores of all pairs never exist together: a task holds those of a few queries, in the manner of FlashAttention (Dao et al. 2022,
//! arXiv:2205.14135), and the backward pass computes them again from the logarithm of each query's sum. Unlike there, a tile spans all the keys
//! its queries see, so no sum is rescaled. Keys no query of a tile can see (later ones, other segments, outside the window) cost nothing.
//!
//! Not here: dropout on the weights, position embeddings other than ALiBi.

mod alibi;
mod autodiff;
mod backward;
mod composed;
mod forward;
mod problem;
mod scores;

pub use alibi::Alibi;
pub use composed::composed;

use crate::{flex::is_fused, precision::Precision};
use burn::{
    backend::{
        Backend, Dispatch, ExtensionType, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{Device, Int, Tensor},
};

/// What differs between the attention of one model family and another.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Factor on `q . k`, usually `1 / sqrt(head_dim)`.
    pub scale: f64,
    /// Which keys of its segment a query sees.
    pub sight: Sight,
    /// `c * tanh(score / c)`, after the bias and before the mask.
    pub softcap: Option<f64>,
    /// A bias by position.
    pub alibi: Option<Alibi>,
    /// In which numbers products read queries, keys, values, weights and their gradients. Scores and weights are computed in f32.
    pub precision: Precision,
}

/// Which keys of its segment a query sees, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Itself and those before it.
    Causal {
        /// How many keys, itself included; `None` is all before it.
        window: Option<usize>,
    },
    /// All of them.
    Full,
}

impl Sight {
    /// The keys, of so many, that the query at a position sees: the one place that knows about causality.
    pub(super) fn of(self, position: usize, keys: usize) -> std::ops::Range<usize> {
        match self {
            Self::Causal { window } => {
                let end = position + 1;
                window.map_or(0, |window| end.saturating_sub(window))..end
            }
            Self::Full => 0..keys,
        }
    }
}

/// Grouped-query attention.
///
/// `q` is `[batch, queries, heads, head_dim]`, `k` and `v` are `[batch, keys, groups, head_dim]`, f32; `heads` is a multiple of
/// `groups` and key-value head `j` serves the query heads from `j * heads / groups`. The queries are the last of the keys'
/// positions, unless sight is full and there is no bias by position: then they may be others, and more than the keys. Query
/// `i` (position `p = i + keys - queries`) sees key `j` if their segments are equal and, where sight is causal, `j <= p` and
/// `p - window < j`.
///
/// `segments` holds those of the queries `[batch, queries]` and of the keys `[batch, keys]`; `None` is one segment a row.
/// A query that sees no key gives zeros.
///
/// # Panics
/// When the shapes do not fit together.
pub fn attention(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    segments: Option<(Tensor<2, Int>, Tensor<2, Int>)>,
    options: &AttentionOptions,
) -> Tensor<4> {
    assert_shapes(&q, &k, &v, segments.as_ref(), options);
    if !is_fused(&q.device()) || !has_body(&q.device(), options) {
        return composed(q, k, v, segments, options);
    }
    let segments = match segments {
        Some((queries, keys)) => Segments::Packed { queries: queries.into_dispatch(), keys: keys.into_dispatch() },
        None => Segments::One,
    };
    Tensor::from_dispatch(<Dispatch as AttentionBackend>::fused_attention(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        segments,
        options.clone(),
    ))
}

/// Whether the fused form of a device knows these options.
fn has_body(device: &Device, options: &AttentionOptions) -> bool {
    #[cfg(feature = "cube")]
    if crate::cube::is_cube(device) {
        return crate::cube::has_attention(options);
    }
    let _ = (device, options);
    true
}

fn assert_shapes(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    segments: Option<&(Tensor<2, Int>, Tensor<2, Int>)>,
    options: &AttentionOptions,
) {
    let ([batch, queries, heads, head_dim], [_, keys, groups, _]) = (q.dims(), k.dims());
    assert_eq!(k.dims(), [batch, keys, groups, head_dim], "keys beside queries {:?}", q.dims());
    assert_eq!(v.dims()[..3], [batch, keys, groups], "values beside keys {:?}", k.dims());
    assert!(groups > 0 && heads.is_multiple_of(groups), "{heads} query heads share {groups} key-value heads");
    let placeless = options.sight == Sight::Full && options.alibi.is_none();
    assert!(queries <= keys || placeless, "{queries} queries are the last of {keys} keys");
    if let Some((of_queries, of_keys)) = segments {
        assert_eq!([of_queries.dims(), of_keys.dims()], [[batch, queries], [batch, keys]], "segments");
    }
    if let Some(alibi) = &options.alibi {
        assert_eq!(alibi.slopes().len(), heads, "one ALiBi slope a query head");
        assert!(alibi.slopes().iter().all(|slope| slope.is_finite()), "ALiBi slopes {:?}", alibi.slopes());
    }
}

/// Which positions belong together.
#[derive(ExtensionType)]
pub enum Segments<B: Backend> {
    /// All positions of a row.
    One,
    /// Those with equal numbers.
    Packed {
        /// `[batch, queries]`.
        queries: IntTensor<B>,
        /// `[batch, keys]`.
        keys: IntTensor<B>,
    },
}

/// Backends with a fused [`attention`].
#[backend_extension(Flex, Cube: cfg(feature = "cube"), Autodiff)]
pub trait AttentionBackend: Backend {
    /// See [`attention`].
    fn fused_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] segments: Segments<Self>,
        options: AttentionOptions,
    ) -> FloatTensor<Self>;
}

#[cfg(test)]
mod tests;
