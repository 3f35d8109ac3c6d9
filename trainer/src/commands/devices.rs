//! `firebrand devices`: what can be named as a device here.

use std::process::ExitCode;

use indicatif::BinaryBytes;
use serde_json::json;

use crate::cli::DevicesArgs;
use crate::device::{Listed, listing};
use crate::error::Error;
use crate::say;

pub fn run(arguments: &DevicesArgs) -> Result<ExitCode, Error> {
    let listing = listing();
    if arguments.json {
        say!("{:#}\n", json!(listing))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = listing.devices.iter().map(|device| device.device.len()).max().unwrap_or_default();
    for device in &listing.devices {
        say!("{:width$}  {}\n", device.device, described(device))?;
        if let Some(problem) = &device.problem {
            say!("{:width$}  cannot be used: {problem}\n", "")?;
        }
    }
    say!("auto means {}\n", listing.auto)?;
    if !listing.left_out.is_empty() {
        let left_out = listing.left_out.join(", ");
        say!("This build is without {left_out}; docs/devices.md says which feature is for which machine\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Kind, hardware, driver, memory and numbers of a device.
fn described(device: &Listed) -> String {
    let mut parts = vec![format!("{}: {}", device.kind, device.name)];
    parts.extend(device.driver.clone());
    parts.extend(device.memory.map(|bytes| format!("{} of memory", BinaryBytes(bytes))));
    if !device.precisions.is_empty() {
        parts.push(device.precisions.iter().map(|numbers| numbers.name()).collect::<Vec<_>>().join(" "));
    }
    parts.join(", ")
}
