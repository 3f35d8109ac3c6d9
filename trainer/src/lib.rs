//! firebrand: recipes, training, checkpoints, export, and the commands of the `firebrand` binary.

pub mod cli;
pub mod commands;
pub mod device;
pub mod error;
pub mod export;
pub mod features;
pub mod guess;
pub mod home;
pub mod host;
pub mod inference;
pub mod inspect;
pub mod learner;
pub mod objective;
pub mod observer;
pub mod optim;
pub mod pictures;
pub mod plan;
pub mod profile;
pub mod recipe;
pub mod run;
pub mod selftest;
pub mod training;
pub mod ui;
