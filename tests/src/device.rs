//! The device that tests run on: the processor, or what `FIREBRAND_TEST_DEVICE` names, as `--device` would.

use burn::tensor::Device;
use firebrand::recipe::DeviceName;

/// The variable.
const VARIABLE: &str = "FIREBRAND_TEST_DEVICE";

/// Its name.
///
/// # Panics
/// When the variable names none.
pub fn name() -> DeviceName {
    match std::env::var(VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|problem| panic!("{VARIABLE}: {problem}")),
        Err(_) => DeviceName::Cpu,
    }
}

/// The device.
///
/// # Panics
/// When it is not there.
pub fn open() -> Device {
    let name = name();
    firebrand::device::open(&name).unwrap_or_else(|error| panic!("{VARIABLE}={name}: {error}"))
}

/// The override that makes a recipe run on it; none where that is the processor, and the recipe decides.
pub fn as_override() -> Option<String> {
    let name = name();
    (name != DeviceName::Cpu).then(|| name.as_override())
}
