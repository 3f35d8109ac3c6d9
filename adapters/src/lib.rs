//! Linear maps and their adapters: a weight may be dense or quantized, and an adapter changes its effect.
//!
//! Only [`Linear`] looks inside a weight. The code above it says *which* weights are adapted ([`Targets`], in Hugging
//! Face's module paths) and *how* ([`AdapterConfig`]); the code below it is kernels. [`peft`] reads and writes the
//! files in which other tools exchange adapters.
//!
//! To add a method: a file beside `lora.rs`, a variant of [`Adapter`], a variant of [`AdapterConfig`].

mod adapter;
mod combine;
mod dora;
mod dropout;
mod error;
mod extract;
mod ia3;
mod initial;
mod linear;
mod loftq;
mod lora;
mod merge;
mod mode;
pub mod peft;
mod random;
mod spectrum;
mod table;
mod targets;
mod trained_base;
mod unmatched;
mod weight;

pub use adapter::{Adapter, AdapterConfig, AdapterValues};
pub use combine::{Combination, Part};
pub use dora::Dora;
pub use error::AdapterError;
pub use extract::Extract;
pub use ia3::{Ia3, Ia3Config};
pub use initial::LoraInit;
pub use linear::Linear;
pub use lora::{Lora, LoraConfig, LoraFactors};
pub use merge::low_rank_delta;
pub use mode::{Mode, Place};
pub use peft::AdapterTensor;
pub use random::{normal, stream, uniform};
pub use spectrum::Spectrum;
pub use targets::{Layers, ModulePattern, Targets};
pub use trained_base::{Biases, TrainedBase, Tying};
pub use unmatched::Unmatched;
