//! What a run leaves on disk: the output folder, its checkpoints, and its metrics.
//!
//! Two promises hold everywhere here. A file either has its old content or its new one, never a
//! part (temporary name, fsync, rename, fsync of the folder), and a failure names its path and
//! what to do. What goes *into* a checkpoint (weights, optimiser) is the caller's; this module
//! sees files only.

mod checkpoint;
mod directory;
mod error;
mod files;
mod info;
mod manifest;
mod metrics;
mod retention;
mod state;
mod tensorboard;
mod trainer_state;

pub use checkpoint::{Checkpoint, CheckpointStatus, Checkpoints, Selection};
pub use directory::RunDirectory;
pub use error::{Flaw, PassedOver, RunError};
pub use files::{sha256_bytes, sha256_file, write_atomically};
pub use info::RunInfo;
pub use manifest::{FileDigest, MANIFEST, Manifest};
pub use metrics::MetricsFile;
pub use retention::Retention;
pub use state::{Best, RunState, STATE};
pub use tensorboard::TensorBoard;
pub use trainer_state::{TRAINER_STATE, TrainerState};

#[cfg(test)]
pub(crate) use tensorboard::tests::scalars as tensorboard_scalars;
