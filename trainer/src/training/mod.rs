//! The training loop: a plain function of plan, data and an observer.
//!
//! ```text
//! steps.rs        which packs a step trains on
//! trainer.rs      one step, and the loop around it
//! evaluation.rs   loss on held-out rows
//! snapshot.rs     the loop's state as checkpoint files, both ways
//! ```
//! No terminal, signal or recipe file is known here.

mod evaluation;
mod snapshot;
mod steps;
mod trainer;

pub use evaluation::evaluate;
pub use steps::{StepData, Steps};
pub use trainer::{Outcome, Trainer};
