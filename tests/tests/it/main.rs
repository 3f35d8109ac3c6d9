//! All integration tests in one binary: one link, one run. A subject is a module.

mod adapter_tools;
mod cli;
mod configs;
mod correctness;
mod disk;
mod evaluation;
mod formats;
mod generating;
mod going_on;
mod goldens;
mod house;
mod hub;
mod inspect;
mod objectives;
mod paths;
mod program;
mod quickstart;
mod resume;
mod seeing;
mod tensor_rows;
mod towers;
mod workshop;
