//! `firebrand schema`.

use std::process::ExitCode;

use crate::error::Error;
use crate::recipe::json_schema;

pub fn run() -> Result<ExitCode, Error> {
    println!("{:#}", json_schema());
    Ok(ExitCode::SUCCESS)
}
