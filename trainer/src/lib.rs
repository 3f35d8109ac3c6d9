//! Recipes, training, checkpoints, export, and the one binary.

pub mod bars;
pub mod cli;
pub mod commands;
pub mod companions;
pub mod date;
pub mod device;
pub mod error;
pub mod export;
pub mod generate;
pub mod hub;
pub mod inspect;
pub mod learner;
pub mod loading;
pub mod memory;
pub mod merge;
pub mod objective;
pub mod observer;
pub mod optim;
pub mod plan;
pub mod recipe;
pub mod run;
pub mod samples;
pub mod scoring;
pub mod selftest;
pub mod training;
pub mod ui;
