//! What is known of the hardware behind a device, and the first number that a device computes: [`started`].

use std::fmt;
use std::sync::Mutex;

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::failure;
use crate::error::Error;
use crate::recipe::DeviceName;

/// The hardware behind a device, as its driver tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// The name of the card, or of the program that stands in for one.
    pub name: String,
    /// Name and version of the driver, where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.driver.as_ref().map_or(Ok(()), |driver| write!(f, ", driver {driver}"))
    }
}

/// The error for a device that this build is made without.
pub(super) fn left_out(device: &DeviceName, feature: &'static str) -> Error {
    Error::Device { device: device.to_string(), feature }
}

/// Devices that have computed.
static STARTED: Mutex<Vec<String>> = Mutex::new(vec![]);

/// A device that has computed a number, which needs its driver, the compiler of kernels and all that these load.
///
/// # Errors
/// It did not.
pub(super) fn started(name: &DeviceName, hardware: Option<&Hardware>, device: Device) -> Result<Device, Error> {
    let label = match hardware {
        Some(hardware) => format!("{name} ({hardware})"),
        None => name.to_string(),
    };
    let mut started = STARTED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if started.contains(&label) {
        return Ok(device);
    }
    let computed = failure::quietly(|| {
        let sum = Tensor::<1>::from_floats([1.0, 2.0], &device) + 1.0;
        sum.try_into_data().map(|data| data.iter::<f32>().collect::<Vec<_>>()).map_err(|error| format!("{error:?}"))
    });
    let problem = match computed.and_then(|computed| computed) {
        Ok(values) if values == [2.0, 3.0] => None,
        Ok(values) => Some(format!("[1, 2] + 1 is {values:?} on it")),
        Err(message) => Some(failure::reason(&message)),
    };
    match problem {
        None => {
            failure::watch(&label);
            started.push(label);
            Ok(device)
        }
        Some(problem) => Err(Error::Request {
            problem: format!("device {label} does not compute: {problem}"),
            help: "see in docs/devices.md what must be installed for it, `firebrand devices` for others, or use --device cpu".into(),
        }),
    }
}
