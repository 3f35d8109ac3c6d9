//! Uses models without training them: loading, scoring and text generation.
//!
//! ```text
//! base.rs         the base model that an adapter names
//! loading.rs      the model of a command that has no recipe; classes.rs what a classifier tells apart
//! painting.rs     pictures of prompts by a diffusion pipeline
//! predicting.rs   the view of models that predict tokens
//! scoring.rs      log-probabilities of tokens, losses of rows, embeddings
//! zero_shot.rs    classes of pictures by their names, as towers know them
//! samples.rs      a recipe's questions, answered before and after training
//! header.rs       the header of an answer, where the model writes it
//! generate/       text generation with a KV cache
//! ```

mod base;
mod classes;
pub mod generate;
mod header;
mod loading;
mod painting;
mod predicting;
pub mod samples;
mod scoring;
mod zero_shot;

pub use base::base_model;
pub use header::Header;
pub use loading::{LoadedModel, TemplateCheck, base_of, other_base, put_on, tell_notes};
pub use painting::{Latents, Painting, Wish};
pub use predicting::predictor;
pub use scoring::{Scored, measure, score};
pub use zero_shot::{TEMPLATE, ZeroShot};
