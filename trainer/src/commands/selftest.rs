//! `firebrand selftest`: trains a tiny model and checks the numbers on this machine.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::SelftestArgs;
use crate::device;
use crate::error::Error;
use crate::say;
use crate::selftest;

pub fn run(arguments: &SelftestArgs) -> Result<ExitCode, Error> {
    let name = device::decided(&arguments.device);
    let (device, described) = (device::open(&name)?, device::described(&name));
    let mut shown = Ok(());
    let checks = selftest::run(&device, |check| {
        if !arguments.json && shown.is_ok() {
            shown = say!("{check}\n");
        }
    })?;
    shown?;
    let failed = checks.iter().filter(|check| !check.passed).count();
    if arguments.json {
        let report = json!({ "device": name.to_string(), "hardware": device::hardware(&name), "passed": failed == 0, "checks": checks });
        say!("{report:#}\n")?;
    } else if failed == 0 {
        say!("all {} claims hold on {described}\n", checks.len())?;
    } else {
        say!("{failed} of {} claims do not hold on {described}\n", checks.len())?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
