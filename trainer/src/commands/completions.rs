//! `firebrand completions`: prints a completion script for a shell.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::Cli;
use crate::error::Error;

pub fn run(shell: clap_complete::Shell) -> Result<ExitCode, Error> {
    clap_complete::generate(shell, &mut Cli::command(), "firebrand", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
