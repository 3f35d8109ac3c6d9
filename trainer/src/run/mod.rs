//! The files that a run leaves on disk: the output folder, its checkpoints, and its metrics.
//!
//! Two rules hold in this module. A file has either its old content or its new content, never a
//! part (temporary name, fsync, rename, fsync of the folder). An error names its path and says what
//! to do. The *content* of a checkpoint (weights, optimiser state) is written by the caller; this
//! module sees only files.

mod checkpoint;
mod directory;
mod error;
mod files;
mod hparams;
mod info;
mod leftovers;
mod manifest;
mod metrics;
mod retention;
mod state;
mod tensorboard;
mod trainer_state;

pub use checkpoint::{Checkpoint, CheckpointStatus, Checkpoints, Selection};
pub use directory::{ResumePoint, RunDirectory};
pub use error::{Flaw, PassedOver, RunError};
pub use files::{read_bounded, sha256_bytes, sha256_file, write_atomically};
pub use info::{Continuation, Differences, PlannedMemory, RunInfo};
pub use manifest::{FileDigest, MANIFEST, Manifest};
pub use metrics::MetricsFile;
pub use retention::Retention;
pub use state::{Best, RunState, STATE};
pub use tensorboard::TensorBoard;
pub use trainer_state::{TRAINER_STATE, TrainerState};

#[cfg(test)]
pub(crate) use tensorboard::tests::scalars as tensorboard_scalars;
