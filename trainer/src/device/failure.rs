//! What a device does to a program that uses it: its libraries panic where memory is used up, a kernel does not compile, or the card is
//! gone. [`guard`] turns such a panic into an error with a way out. A panic of our own stays one: it is a bug, with a place to look at.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind};
use std::sync::Mutex;

use crate::error::Error;

/// The device that computes, and the hardware behind it; none while it is the processor.
static WATCHED: Mutex<Option<String>> = Mutex::new(None);
/// What the first panic of a device said, unless one of our own followed.
static SAID: Mutex<Option<String>> = Mutex::new(None);

thread_local! {
    /// Whether panics of this thread are expected, and become values.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Names of the crates that drive devices, as they stand in the paths of their sources.
const DRIVING: [&str; 7] = ["cubecl", "cubek", "wgpu", "cudarc", "naga", "burn-dispatch", "burn-autodiff"];
/// What Burn says, in our place, when a result of a device cannot be had.
const NOT_READ: [&str; 3] = ["Error while reading data", "Failed to read tensor data", "ExecutionError"];
/// How a device says that it lacks memory.
const MEMORY: [&str; 6] =
    ["out of memory", "outofmemory", "out_of_memory", "not enough memory", "buffertoobig", "too large"];
/// Longest part of a message of a device that is shown.
const SHOWN: usize = 300;

/// Remembers which device computes.
pub(super) fn watch(device: &str) {
    *lock(&WATCHED) = Some(device.to_string());
}

/// Runs a command. A panic of the device ends it with an error.
///
/// # Errors
/// Those of the command, and what the device failed with.
pub fn guard<T>(command: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if QUIET.get() {
            return;
        }
        let message = message_of(info);
        if lock(&WATCHED).is_some() && is_of_device(info, &message) {
            lock(&SAID).get_or_insert(message);
            if std::env::var_os("RUST_BACKTRACE").is_none() {
                return;
            }
        } else {
            *lock(&SAID) = None;
        }
        before(info);
    }));
    match catch_unwind(AssertUnwindSafe(command)) {
        Ok(result) => result,
        Err(panic) => match (lock(&SAID).take(), lock(&WATCHED).clone()) {
            (Some(message), Some(device)) => Err(failed(&device, &message)),
            _ => resume_unwind(panic),
        },
    }
}

/// The result of `work`, or the message of its panic, of which nothing is printed while [`guard`] runs.
pub(super) fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.map_err(|panic| text_of(panic.as_ref()))
}

/// What a message of the libraries has to say, in one line.
pub(super) fn reason(message: &str) -> String {
    let quoted = ["reason: \"", "message: \"", "Caused by:\n"].iter().find_map(|mark| {
        let rest = message.split_once(mark)?.1;
        let end = if mark.ends_with('"') { rest.find("\", ").or(rest.find("\" }")) } else { rest.find('\n') };
        Some(&rest[..end.unwrap_or(rest.len())])
    });
    let line = quoted.unwrap_or_else(|| message.lines().next().unwrap_or_default());
    let line = line.replace("\\n", " ").replace("\\\"", "\"");
    let words: Vec<&str> = line.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} ..", &line[..end]),
        None => line,
    }
}

fn failed(device: &str, message: &str) -> Error {
    let lower = message.to_lowercase();
    let help = if MEMORY.iter().any(|words| lower.contains(words)) {
        "it has too little memory for this run: lower train.micro_batch_size or data.max_length, set train.recompute = \"blocks\", or \
         quantize the base ([quantization] kind = \"nf4\"); a checkpoint that was written before is kept, and --resume goes on from it"
    } else {
        "a checkpoint that was written before is kept, and --resume goes on from it; `firebrand selftest --device D` tells whether the \
         device computes at all, RUST_BACKTRACE=1 shows where it failed, and --device cpu computes the same"
    };
    Error::Request { problem: format!("device {device} failed: {}", reason(message)), help: help.into() }
}

fn is_of_device(info: &PanicHookInfo<'_>, message: &str) -> bool {
    let file = info.location().map_or("", |location| location.file());
    DRIVING.iter().any(|name| file.contains(name)) || NOT_READ.iter().any(|words| message.contains(words))
}

fn message_of(info: &PanicHookInfo<'_>) -> String {
    text_of(info.payload())
}

fn text_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason was given").to_string()
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_says_why_a_device_failed() {
        let nested = "Error while reading data: use `try_into_data` instead: WithContext { reason: \"buffer of 9 GiB\\nis too large\", backtrace: x }";
        assert_eq!(reason(nested), "buffer of 9 GiB is too large");
        assert_eq!(reason("An error happened during execution\nCaused by:\n  lost\nBacktrace:\n 0: x"), "lost");
        assert_eq!(reason("plain\nmore"), "plain");
        assert_eq!(reason(&"x".repeat(1000)).len(), SHOWN + 3);
    }

    #[test]
    fn a_device_without_memory_has_another_way_out_than_one_that_is_lost() {
        let help = |message: &str| match failed("cuda:0 (A)", message) {
            Error::Request { problem, help } => (problem, help),
            other => panic!("{other}"),
        };
        let (problem, way) = help("CUDA_ERROR_OUT_OF_MEMORY");
        assert_eq!(problem, "device cuda:0 (A) failed: CUDA_ERROR_OUT_OF_MEMORY");
        assert!(way.contains("train.micro_batch_size"), "{way}");
        assert!(help("the device is lost").1.contains("selftest"));
    }

    #[test]
    fn a_panic_of_a_probe_is_a_value() {
        assert_eq!(quietly(|| 3), Ok(3));
        assert_eq!(quietly(|| panic!("no driver")), Err::<(), _>("no driver".to_string()));
    }
}
