//! Optimisers, learning-rate schedules and gradient clipping, each equal to its namesake in torch, transformers,
//! bitsandbytes, PEFT or lion-pytorch.
//!
//! The settings are the recipe's own types (`recipe::Optimizer`, `recipe::Curve`); this module implements them.
//! An optimiser is given flat f32 tensors by parameter path and keeps its state under the same path, so its state file
//! is readable and a resumed run continues bit for bit. To add one: a variant of the recipe's `[optimizer]`, a file
//! here, an arm in `update.rs`.

mod adafactor;
mod adamw;
mod adamw_8bit;
mod average;
mod blockwise;
mod clip;
mod lion;
mod muon;
mod parameter;
mod schedule;
mod sgd;
mod size;
mod state;
mod update;

pub use average::WeightAverage;
pub use blockwise::{BLOCK, DynamicMap};
pub use clip::{clip_factor, global_norm, global_norm_beside};
pub use parameter::{LearningRates, LoraPlus, Parameter};
pub use state::{OptimizerState, Quantity};
