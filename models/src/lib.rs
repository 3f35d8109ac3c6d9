//! Transformer networks, the families of published models, and their weights files.
//!
//! [`parts`] are what networks are made of; [`decoder`], [`image`], [`towers`] and [`diffusion`] are networks, and [`network`] is the sum of
//! their kinds. [`families`] has a file for each architecture, which says how its `config.json` chooses parts and how
//! its files name tensors; [`weights`] reads and writes those files. A [`Model`] is a network with the names of its
//! tensors and the adapters on it. Not here: recipes, run folders, the command line.

mod adapter;
pub mod conditioner;
pub mod decoder;
pub mod diffusion;
mod error;
pub mod families;
pub mod hf_config;
pub mod image;
mod kept;
mod model;
pub mod network;
pub mod parameters;
pub mod parts;
mod picture_inputs;
pub mod pipeline;
mod python_json;
mod quantization_config;
pub mod towers;
mod views;
pub mod weights;
mod what_is_here;
mod wording;

pub use adapter::{
    extract as adapter_extract, folder as adapter_folder, merge as adapter_merge, pipeline as adapter_of_pipeline,
};
pub use conditioner::Conditioner;
pub use error::ModelError;
pub use kept::Kept;
pub use model::{Hold, Model, ModelFiles, Student, TokenModules, VocabularyRows, WriteAs};
pub use network::{Kind, Network};
pub use picture_inputs::{CaptionInput, PictureInputs};
pub use quantization_config::FourBitConfig;
pub use views::{Pooled, PooledInputs, Predictor, Stack, TokenLimits};
pub use what_is_here::{Found, Wanted};
