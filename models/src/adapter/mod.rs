//! Adapters on a model: where they can be, their folders, and what is made of finished ones.
//!
//! ```text
//! site.rs          a place for an adapter, and an adapter in its place
//! trained_base.rs  parameters of the base model that are trained beside adapters
//! experts.rs       which sets of adapters on experts PEFT reads as they are meant
//! folder.rs        PEFT folders, put on a model and written from it
//! merge.rs         several adapter folders made into one
//! extract.rs       one adapter folder made of two models
//! ```

mod experts;
pub mod extract;
pub mod folder;
pub mod merge;
mod site;
pub(crate) mod trained_base;

pub(crate) use site::{Placed, Site};
