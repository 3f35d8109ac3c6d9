//! All integration tests in one binary: one link, one run. A subject is a module.

mod adapter_tools;
mod before_a_recipe;
mod choosing;
mod cli;
mod configs;
mod correctness;
mod disk;
mod evaluation;
mod first_run;
mod formats;
mod goldens;
mod house;
mod hub;
mod inspect;
mod named_files;
mod objectives;
mod other_folders;
mod paths;
mod program;
mod quickstart;
mod resume;
mod seeing;
mod tensor_rows;
mod towers;
mod vocabulary;
mod workshop;
