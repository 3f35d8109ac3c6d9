//! Equal to the reference implementations.

mod forward;
mod lora;
mod optim;
mod published;
mod score;
mod trajectory;
