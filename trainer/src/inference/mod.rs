//! Uses models without training them: loading, scoring and text generation.
//!
//! ```text
//! base.rs         the base model that an adapter names
//! loading.rs      the model of a command that has no recipe
//! predicting.rs   the view of models that predict tokens
//! scoring.rs      log-probabilities of tokens, losses of rows, embeddings
//! samples.rs      a recipe's questions, answered before and after training
//! generate/       text generation with a KV cache
//! ```

mod base;
pub mod generate;
mod loading;
mod predicting;
pub mod samples;
mod scoring;

pub use base::base_model;
pub use loading::{LoadedModel, TemplateCheck, base_of, put_on};
pub use predicting::predictor;
pub use scoring::{Scored, measure, score};
