//! The decoder: parts as sum types, put together in [`Decoder`].
//!
//! ```text
//! ids -> embed -> [ x + attention(norm(x)) -> x + mlp(norm(x)) ] * layers -> norm -> head
//! ```
//! A family chooses a variant of each part in its [`DecoderConfig`]; a part it needs and that is not here becomes a new
//! variant in the part's file. Parts know neither file names nor families.

mod attention;
mod block;
mod cache;
mod config;
mod decoder;
mod embedding;
mod experts;
mod head;
mod mlp;
mod norm;
mod position;
mod qkv;

pub use attention::Attention;
pub use block::{Block, Norms};
pub use cache::{Cache, LayerCache};
pub use config::{
    Affine, AttentionConfig, DecoderConfig, EmbeddingConfig, FusedLayout, HeadConfig, MlpConfig, NormConfig,
    PositionConfig, QkNorm, QkvLayout, Residual, Scale, Window,
};
pub use decoder::{Decoder, EMBEDDING, HEAD, Inputs};
pub use embedding::Embedding;
pub use experts::{Experts, Routed, Routing};
pub use head::Head;
pub use mlp::Mlp;
pub use norm::Norm;
pub use position::{Context, Position};
pub use qkv::Qkv;
