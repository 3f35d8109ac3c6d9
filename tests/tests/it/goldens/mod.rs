//! Equal to the reference implementations.

mod adapter_files;
mod adapter_merge;
mod classifiers;
mod diffusion;
mod forward;
mod gradients;
mod images;
mod loftq;
mod lora;
mod optim;
mod pictures;
mod preference;
mod published;
mod quantized;
mod sampling;
mod score;
mod towers;
pub mod trajectory;
mod vocabulary;
