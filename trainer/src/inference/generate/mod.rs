//! Text generation with a KV cache.
//!
//! ```text
//! session.rs      one growing sequence
//! sampler.rs      the next token, from logits
//! stop_texts.rs   an answer ends before a text
//! asked.rs        what a model's generation_config.json asks for
//! ```

mod asked;
mod sampler;
mod session;
mod stop_texts;

pub use asked::Asked;
pub use sampler::{Draw, Sampler, Sampling};
pub use session::{Finish, Session};
pub use stop_texts::StopTexts;
