//! Architectures, and how checkpoints name their tensors.
//!
//! [`transformer`] holds the parts and the decoder they make; [`families`] says, a file each, how a published
//! `config.json` chooses parts and how its tensors are called; [`weights`] reads and writes the files. A [`CausalLm`] is
//! all three together with the adapters on it. Not here: recipes, experiments, the command line.

pub mod adapter_extract;
pub mod adapter_folder;
pub mod adapter_merge;
mod causal_lm;
mod error;
mod expert_adapters;
pub mod families;
pub mod hf_config;
mod load;
mod model_files;
pub mod parameters;
mod quantization_config;
mod site;
mod trained_base;
pub mod transformer;
pub mod weights;
mod write_as;

pub use causal_lm::{CausalLm, Hold};
pub use error::ModelError;
pub use model_files::ModelFiles;
pub use quantization_config::FourBitConfig;
pub use write_as::WriteAs;
