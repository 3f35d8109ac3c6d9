//! Optimisers, learning-rate schedules and gradient clipping, each equal to its torch or transformers namesake.
//!
//! The settings are the recipe's own types (`recipe::Optimizer`, `recipe::Curve`); this module gives them their meaning.
//! An optimiser sees flat f32 tensors by parameter path and keeps its state by the same path, so its state file is
//! readable and a resumed run continues bit for bit. Adding one: a variant of the recipe's `[optimizer]`, a file here,
//! an arm in `state.rs`.

mod adamw;
mod clip;
mod schedule;
mod sgd;
mod state;

pub use clip::{clip_factor, global_norm};
pub use state::OptimizerState;
