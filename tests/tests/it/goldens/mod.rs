//! Equal to the reference implementations.

mod forward;
mod lora;
mod optim;
mod score;
mod trajectory;
