//! The training loop, [`Trainer`]: a plain function of recipe, model, data and an observer.
//!
//! ```text
//! steps.rs        which packs each step trains on; ahead.rs lays the next one out while one is computed
//! trainer.rs      one step, and the loop around it; update.rs is the optimiser's part of a step
//! measure.rs      steps that are only measured
//! evaluation.rs   the loss on held-out rows
//! rate_test.rs    the learning-rate range test, by the rates of rate_sweep.rs
//! summary.rs      what a run was, in a few numbers
//! trainable.rs    what a full run trains
//! snapshot.rs     the state of the run, to and from checkpoint files
//! ```
//! Nothing here knows a terminal, a signal or a recipe file.

mod ahead;
mod evaluation;
mod measure;
mod rate_sweep;
mod rate_test;
mod snapshot;
mod steps;
mod summary;
mod trainable;
mod trainer;
mod update;

pub use evaluation::evaluate;
pub use measure::MeasuredStep;
pub use rate_sweep::RateSweep;
pub use rate_test::{RateAdvice, RateTest, RateTrial};
pub use steps::{StepData, Steps};
pub use summary::{Evaluations, Summary};
pub use trainable::{FreezeError, train_all};
pub use trainer::{Ask, Outcome, Questions, Trainer};
