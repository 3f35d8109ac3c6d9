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
mod mlp;
mod norm;
mod position;

pub use attention::{Attention, Qkv};
pub use block::{Block, Residual};
pub use cache::{Cache, LayerCache};
pub use config::{AttentionConfig, DecoderConfig, MlpConfig, NormConfig, PositionConfig, Window};
pub use decoder::{Decoder, Inputs};
pub use mlp::Mlp;
pub use norm::Norm;
pub use position::{Context, Position};
