//! The verbs: each reads its arguments, calls the library, and prints.

mod adapter;
mod cache;
mod check;
mod completions;
mod data;
mod eval;
mod generate;
mod inspect;
mod merge;
mod schema;
mod score;
mod selftest;
mod train;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::error::Error;

/// Carries out a command. The exit code is 0 for what was done and 1 for a check that failed without an error.
///
/// # Errors
/// Whatever went wrong, to be shown once.
pub fn run(cli: Cli) -> Result<ExitCode, Error> {
    // Output cut short by `head` is no error. A training run, however, must outlive its reader.
    if !matches!(cli.command, Command::Train(_)) {
        sigpipe::reset();
    }
    match cli.command {
        Command::Train(arguments) => train::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Data(arguments) => data::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Adapter(command) => adapter::run(&command),
        Command::Cache(command) => cache::run(&command),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Selftest(arguments) => selftest::run(&arguments),
        Command::Schema => schema::run(),
        Command::Completions { shell } => completions::run(shell),
    }
}
