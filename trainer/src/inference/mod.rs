//! Models that are used and not trained.
//!
//! ```text
//! loading.rs      the model of a command that has no recipe
//! scoring.rs      probabilities of the tokens of rows
//! samples.rs      a recipe's questions, answered before and after training
//! generate/       text, with a KV cache
//! ```

pub mod generate;
mod loading;
pub mod samples;
mod scoring;

pub use loading::{LoadedModel, TemplateCheck, base_of, put_on};
pub use scoring::{Scored, measure, score};
