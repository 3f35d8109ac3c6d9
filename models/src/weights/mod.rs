//! How checkpoints are stored and how they name their tensors.
//!
//! ```text
//! safetensors.rs  one file: mapped, its header checked, a tensor's bytes untouched until asked for
//! pickle/         one file that PyTorch saved, read without executing anything
//! file.rs         one file in either format
//! checkpoint.rs   a folder: one file, or shards with an index
//! rules.rs        our names <-> theirs, both ways
//! account.rs      every tensor of file and model used exactly once, or named in the error
//! accounting_error.rs  what is wrong where they do not match
//! tie.rs          whether the output head shares the embedding
//! plan.rs         which tensor goes where in the files to write
//! bitsandbytes.rs the tensors of a weight in 4 bits
//! writer.rs       the writing: one tensor in memory, nothing partial left behind
//! ```
//! Bytes, shapes and dtypes only: what becomes of them in a tensor library is not decided here. Files are untrusted:
//! they give a value or an error, never a panic, and reading what stands before the tensors allocates no more than the
//! file's own size and a few MiB.

mod account;
mod accounting_error;
mod bitsandbytes;
mod checkpoint;
mod dtype;
mod file;
mod header;
mod index;
mod mapping;
mod pickle;
mod plan;
mod rules;
mod safetensors;
mod template;
mod tie;
mod view;
mod writer;

pub use account::{Expected, Form, Load, LoadPlan};
pub use accounting_error::{AccountingError, Doubled, Misshapen, Missing, Unused};
pub use bitsandbytes::{QuantizedHeader, quantized_part_of, quantized_tensors, quantized_weights, read_quantized};
pub use checkpoint::Checkpoint;
pub use dtype::Dtype;
pub use file::WeightsFile;
pub use pickle::PickleFile;
pub use plan::{CheckpointPlan, PlanOptions, TensorSpec};
pub use rules::{Layout, Reading, Rule, RuleSet};
pub use safetensors::SafetensorsFile;
pub use tie::{Head, HeadTie};
pub use view::TensorView;
pub use writer::Written;
