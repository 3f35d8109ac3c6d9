//! The program as users start it.

use std::process::Command;

/// `firebrand`, without the hub settings and the colours of whoever runs the tests.
pub fn firebrand() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firebrand-under-test"));
    for variable in ["HF_TOKEN", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(variable);
    }
    command.env("NO_COLOR", "1");
    command
}
