//! `firebrand inspect`: reports what a file or folder holds.

use std::process::ExitCode;

use crate::cli::InspectArgs;
use crate::error::Error;
use crate::say;

pub fn run(arguments: &InspectArgs) -> Result<ExitCode, Error> {
    let report = crate::inspect::inspect(&arguments.path)?;
    if arguments.json {
        say!("{}\n", serde_json::to_string_pretty(&report).unwrap_or_default())?;
    } else {
        say!("{report}")?;
    }
    Ok(ExitCode::SUCCESS)
}
