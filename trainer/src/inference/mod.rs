//! Models that are used and not trained.
//!
//! ```text
//! loading.rs      the model of a command that has no recipe
//! predicting.rs   the view of what writes or weighs text
//! scoring.rs      rows as a model sees them: probabilities of tokens, embeddings
//! samples.rs      a recipe's questions, answered before and after training
//! generate/       text, with a KV cache
//! ```

pub mod generate;
mod loading;
mod predicting;
pub mod samples;
mod scoring;

pub use loading::{LoadedModel, TemplateCheck, base_of, put_on};
pub use predicting::predictor;
pub use scoring::{Scored, measure, score};
