//! Weights files: how checkpoints are stored, and the names of their tensors.
//!
//! ```text
//! safetensors.rs  one file: mapped, its header checked, the tensors read on request
//! pickle/         one file that PyTorch saved, read without executing anything
//! file.rs         one file in either format
//! checkpoint.rs   a folder: one file, or shards with an index
//! rules.rs        rules between our names and those in files, both ways
//! account.rs      every tensor of file and model used exactly once, or named in an error
//! tie.rs          whether the output head is tied to the embedding
//! plan.rs         the layout of the files to write
//! bitsandbytes.rs the tensors of a weight in 4 bits
//! writer.rs       the writing: one tensor in memory, no partial files
//! ```
//! Only bytes, shapes and dtypes: how a tensor library uses them is not decided here. Files are untrusted: reading
//! gives a value or an error, never a panic, and reading what precedes the tensors allocates no more than the file's
//! own size and a few MiB.

mod account;
mod accounting_error;
mod bitsandbytes;
mod checkpoint;
mod dtype;
mod file;
mod header;
mod index;
mod lora_names;
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
pub use lora_names::{LORA_FILE, LoraFormat, LoraTensor, parse as parse_lora_name, write as write_lora_name};
pub use pickle::PickleFile;
pub use plan::{CheckpointPlan, PlanOptions, TensorSpec};
pub use rules::{InMemory, Layout, Reading, Rule, RuleSet};
pub use safetensors::SafetensorsFile;
pub use tie::{Head, HeadTie};
pub use view::TensorView;
pub use writer::Written;
