//! The `firebrand` program.

use std::process::ExitCode;

use clap::Parser;
use firebrand::cli::Cli;

fn main() -> ExitCode {
    firebrand_kernels::keep_large_blocks();
    // Causes are left out because messages include them.
    let hook = miette::set_hook(Box::new(|_| Box::new(miette::MietteHandlerOpts::new().without_cause_chain().build())));
    debug_assert!(hook.is_ok(), "the hook is set once");
    match firebrand::commands::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::FAILURE
        }
    }
}
