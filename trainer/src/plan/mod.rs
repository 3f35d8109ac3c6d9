//! Finds, reads and checks everything a run needs before training starts: [`Opened`], then [`Ready`].
//!
//! ```text
//! text.rs             tokenizer and template of the model folder; default_template.rs for models without a template,
//!                     date.rs for templates that print the date
//! text_folder.rs      the folder of both, where an adapter brings its own or tokens are added
//! vocabulary.rs       new tokens, and where their rows start
//! data.rs             the rows; fits.rs checks that model and objective can read them, cache.rs finds the cache,
//!                     length.rs decides epochs and warm-up where the recipe leaves them to the rows
//! companion.rs        what the objective compares the model with: a teacher or its cache
//! kept_reference.rs   what the reference of pairs gave them before
//! cache_estimate.rs   what a teacher's cache will cost and lose
//! objective.rs        the objective, where the recipe leaves it to the model; classes.rs what a classifier tells apart
//! model_folder.rs     the folder of a model, fetched if necessary
//! model.rs            the model; initial_adapter.rs checks the adapter a run starts from
//! memory.rs           an estimate of bytes, by which portions.rs splits a step; room.rs compares it with machine.rs
//! precision.rs        what is computed in, where the recipe leaves it to the machine
//! pictures.rs         how the model reads pictures
//! opened.rs           what is known before rows are read; ready.rs then loads data and model side by side
//! notes.rs            what a user should know although nothing is wrong
//! ```
//! `data` starts from [`Opened`], `train` and `check` from [`Ready`], so `train` starts any recipe that `check`
//! accepts.

pub mod cache;
mod cache_estimate;
mod classes;
mod companion;
mod data;
mod date;
mod default_template;
pub mod fits;
mod initial_adapter;
mod kept_reference;
mod length;
mod machine;
mod memory;
mod model;
mod model_folder;
mod notes;
mod objective;
mod opened;
mod portions;
mod precision;
mod ready;
mod room;
mod rows;
mod text;
mod text_folder;
mod vocabulary;

pub use cache_estimate::CacheEstimate;
pub use classes::{check_labels, decide_classes, give_head, pad};
pub use companion::{CacheNeed, CompanionModel, CompanionPlan, teacher_key};
pub use data::{Data, sources, total_steps};
pub use kept_reference::{KeptReference, ReferenceEstimate};
pub use machine::Machine;
pub use memory::{MemoryPlan, Work};
pub use model::{Built, build_model, hold};
pub use model_folder::model_folder;
pub use notes::notes;
pub use objective::decide_objective;
pub use opened::Opened;
pub use portions::Portions;
pub use precision::{named_precision, stored};
pub use ready::Ready;
pub use rows::rows_of;
pub use text::{Text, dated_text};
pub use text_folder::TextFolder;
pub use vocabulary::Vocabulary;
