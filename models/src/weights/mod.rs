//! How checkpoints are stored and how they name their tensors.
//!
//! ```text
//! safetensors.rs  one file: mapped, its header checked, a tensor's bytes untouched until asked for
//! checkpoint.rs   a folder: one file, or shards with an index
//! rules.rs        our names <-> theirs, both ways
//! account.rs      every tensor of file and model used exactly once, or named in the error
//! tie.rs          whether the output head shares the embedding
//! plan.rs         which tensor goes where in the files to write
//! writer.rs       the writing: one tensor in memory, nothing partial left behind
//! ```
//! Bytes, shapes and dtypes only: what becomes of them in a tensor library is not decided here. Files are untrusted:
//! they give a value or an error, never a panic, and reading a header allocates no more than the file's own size and a
//! few MiB.

mod account;
mod checkpoint;
mod dtype;
mod header;
mod index;
mod plan;
mod rules;
mod safetensors;
mod template;
mod tie;
mod writer;

pub use account::{AccountingError, Doubled, Expected, Load, LoadPlan, Misshapen, Missing, Unused};
pub use checkpoint::Checkpoint;
pub use dtype::Dtype;
pub use plan::{CheckpointPlan, PlanOptions, TensorSpec};
pub use rules::{Layout, Reading, Rule, RuleSet};
pub use safetensors::{SafetensorsFile, TensorView};
pub use tie::{Head, HeadTie};
pub use writer::Written;
