//! Networks, their families, and how their files name tensors.
//!
//! [`parts`] are what networks are made of; [`decoder`] and [`towers`] are networks, and [`network`] is the sum of them.
//! [`families`] say, a file each, how a published `config.json` chooses parts and how its tensors are called; [`weights`] reads
//! and writes the files. A [`Model`] is a network with its names and with the adapters on it. Not here: recipes, experiments,
//! the command line.

mod adapter;
pub mod decoder;
mod error;
pub mod families;
pub mod hf_config;
mod model;
pub mod network;
pub mod parameters;
pub mod parts;
mod quantization_config;
pub mod towers;
mod views;
pub mod weights;
mod wording;

pub use adapter::{extract as adapter_extract, folder as adapter_folder, merge as adapter_merge};
pub use error::ModelError;
pub use model::{Hold, Model, ModelFiles, WriteAs};
pub use network::{Kind, Network};
pub use quantization_config::FourBitConfig;
pub use views::{Predictor, Stack};
