//! `firebrand selftest`.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::SelftestArgs;
use crate::error::Error;
use crate::selftest;

pub fn run(arguments: &SelftestArgs) -> Result<ExitCode, Error> {
    let device = crate::device::open(arguments.device)?;
    let checks = selftest::run(&device, |check| {
        if !arguments.json {
            println!("{check}");
        }
    })?;
    let failed = checks.iter().filter(|check| !check.passed).count();
    if arguments.json {
        let report = json!({ "device": arguments.device.to_string(), "passed": failed == 0, "checks": checks });
        println!("{report:#}");
    } else if failed == 0 {
        println!("all {} claims hold on {}", checks.len(), arguments.device);
    } else {
        println!("{failed} of {} claims do not hold on {}", checks.len(), arguments.device);
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
