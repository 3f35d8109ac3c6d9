//! Adapters on a model: the places for them, their folders, and operations on finished ones.
//!
//! ```text
//! site.rs          a place for an adapter, and an adapter in its place
//! trained_base.rs  parameters of the base model that are trained beside adapters
//! vocabulary.rs   adapters that were trained with another number of tokens
//! experts.rs       which sets of adapters on experts PEFT reads correctly
//! module_names.rs  modules that files call otherwise than PEFT
//! folder.rs        PEFT folders, put on a model and written from it
//! pipeline.rs      LoRA files of diffusion pipelines, read and written
//! merge.rs         several adapter folders combined into one
//! extract.rs       an adapter folder made from two models
//! ```

mod experts;
pub mod extract;
pub mod folder;
pub mod merge;
mod module_names;
pub mod pipeline;
mod site;
mod token_rows;
pub(crate) mod trained_base;
mod vocabulary;

pub(crate) use site::{Placed, Site};
