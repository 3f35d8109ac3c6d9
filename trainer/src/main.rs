//! The `firebrand` program.

use std::process::ExitCode;

use clap::Parser;
use firebrand::cli::Cli;

fn main() -> ExitCode {
    match firebrand::commands::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::FAILURE
        }
    }
}
