//! The parts of networks (attention, MLP, norms, embeddings and so on), as sum types.
//!
//! The configuration of a family chooses a variant of each part; a missing one becomes a new variant in the part's
//! file. Parts know neither names in files nor families, and ask for their parameters by the names of their fields.

mod attention;
mod block;
mod cache;
mod config;
mod embedding;
mod experts;
mod gated;
mod inputs;
mod interpolation;
mod maps;
mod mlp;
mod norm;
mod patches;
mod position;
mod qkv;
mod routing;
mod scaled;

pub use attention::Attention;
pub use block::{Block, Norms};
pub use cache::{Cache, LayerCache};
pub use config::{
    Affine, AttentionConfig, BlockConfig, BlockInitials, FusedLayout, MlpConfig, NormConfig, PositionConfig, QkNorm,
    QkvLayout, Residual, Scale, Sight, Window,
};
pub(crate) use embedding::ids_tensor;
pub use embedding::{Embedding, EmbeddingConfig, LearnedPositions, TokenEmbeddingConfig};
pub use experts::Experts;
pub use inputs::{EmbeddingNoise, Inputs};
pub use interpolation::Interpolation;
pub use maps::Maps;
pub(crate) use maps::maps;
pub use mlp::Mlp;
pub use norm::Norm;
pub use patches::{Patches, PatchesConfig};
pub use position::{Context, Position};
pub use qkv::Qkv;
pub use routing::{Routed, Routing};
