//! The commands of the binary, started by [`run`]: each reads its arguments, calls the library, and prints.

mod adapter;
mod bench;
mod cache;
mod check;
mod completions;
mod counted;
mod data;
mod devices;
mod distill;
mod enlarge;
mod eval;
mod generate;
mod home;
mod init;
mod inspect;
mod merge;
mod schema;
mod score;
mod selftest;
mod student;
mod train;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::device::{guard, instructions};
use crate::error::Error;
use crate::ui::verbosity;

/// Carries out a command. The exit code is 0 for success and 1 for a check that failed without an error.
///
/// # Errors
/// Those of the command. `main` prints them.
pub fn run(mut cli: Cli) -> Result<ExitCode, Error> {
    // When a reader such as `head` closes the pipe, the program ends without an error. A training run must continue.
    if !matches!(cli.command, Command::Train(_)) {
        sigpipe::reset();
    }
    home::expand(&mut cli.command);
    verbosity::set(cli.quiet, cli.verbose);
    instructions()?;
    guard(|| run_command(cli.command))
}

fn run_command(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Train(arguments) => train::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Data(arguments) => data::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Enlarge(arguments) => enlarge::run(&arguments),
        Command::Student(arguments) => student::run(&arguments),
        Command::Distill(command) => distill::run(&command),
        Command::Adapter(command) => adapter::run(&command),
        Command::Cache(command) => cache::run(&command),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Selftest(arguments) => selftest::run(&arguments),
        Command::Schema => schema::run(),
        Command::Completions { shell } => completions::run(shell),
    }
}
