//! Equal to the reference implementations.

mod adapter_merge;
mod forward;
mod loftq;
mod lora;
mod optim;
mod packed;
mod published;
mod score;
mod trajectory;
