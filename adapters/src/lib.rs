//! What a weight can be: dense or quantized, and changed by an adapter.
//!
//! [`Linear`] is the only place that looks inside a weight. Everything above it says *which* weights are adapted
//! ([`Targets`], in the vocabulary of Hugging Face module paths) and *how* ([`AdapterConfig`]); everything below it is a
//! kernel. The [`peft`] module reads and writes the files other tools share adapters in.
//!
//! Adding a method: its own file beside `lora.rs`, a variant in [`Adapter`], a variant in [`AdapterConfig`].

mod adapter;
mod combine;
mod dora;
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
