//! Everything a run needs, found, read and checked, before anything is trained.
//!
//! ```text
//! text.rs             tokenizer and template of the model folder; default_template.rs where it has none, date.rs for those that print it
//! data.rs             the rows; fits.rs says whether model and objective can read them, cache.rs where prepared rows are kept
//! objective.rs        what is minimised, where the recipe leaves it to the model
//! model.rs            the folder and the model; initial_adapter.rs is about adapters to go on from
//! memory.rs           an estimate of bytes, from which recompute.rs decides
//! opened.rs           what is known before rows are read; ready.rs goes on from there, data and model side by side
//! notes.rs            what a user should know, though nothing is wrong
//! ```
//! `data` begins with [`Opened`], `train` and `check` with [`Ready`], so a recipe that `check` accepts is one that `train` starts.

pub mod cache;
mod data;
mod date;
mod default_template;
pub mod fits;
mod initial_adapter;
mod memory;
mod model;
mod notes;
mod objective;
mod opened;
mod ready;
mod recompute;
mod text;

pub use data::{Data, sources, total_steps};
pub use memory::{MemoryPlan, Work};
pub use model::{build_model, hold, model_folder};
pub use notes::notes;
pub use objective::decide_objective;
pub use opened::Opened;
pub use ready::Ready;
pub use recompute::recompute;
pub use text::{Text, dated_text};
