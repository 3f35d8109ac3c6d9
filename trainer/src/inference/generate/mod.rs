//! Text generation with a KV cache.

mod sampler;
mod session;

pub use sampler::{Sampler, Sampling};
pub use session::{Finish, Session};
