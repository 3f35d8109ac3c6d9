//! `firebrand schema`: prints the JSON Schema of recipes.

use std::process::ExitCode;

use crate::error::Error;
use crate::recipe::json_schema;
use crate::say;

pub fn run() -> Result<ExitCode, Error> {
    say!("{:#}\n", json_schema())?;
    Ok(ExitCode::SUCCESS)
}
