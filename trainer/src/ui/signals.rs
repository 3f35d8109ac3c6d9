//! Handles Ctrl-C and SIGTERM: the first signal asks the run to finish its step and write a
//! checkpoint, the second one ends the process at once (exit code 130 or 143). See [`SignalScope`].
//!
//! Outside a run the first signal ends the process. One flag decides: while it is set, a signal
//! ends the process. A run clears the flag, and the first signal sets it again.

use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

static ARMED: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// Whether a stop was requested. Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct StopRequest {
    requested: Arc<AtomicBool>,
}

impl StopRequest {
    /// Requests a stop.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    /// Whether a stop was requested.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}

/// While it exists, the first signal requests a stop instead of ending the process.
#[derive(Debug)]
pub struct SignalScope {
    request: StopRequest,
}

impl SignalScope {
    /// Begins a run that signals can stop.
    ///
    /// # Errors
    /// Those of the operating system when the handlers are registered.
    pub fn begin() -> io::Result<Self> {
        let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        let flag = match armed.as_ref() {
            Some(flag) => flag.clone(),
            None => {
                let flag = Arc::new(AtomicBool::new(true));
                register(flag.clone())?;
                armed.insert(flag).clone()
            }
        };
        flag.store(false, Ordering::SeqCst);
        Ok(Self { request: StopRequest { requested: flag } })
    }

    /// The request that the first signal makes.
    pub fn request(&self) -> StopRequest {
        self.request.clone()
    }
}

impl Drop for SignalScope {
    fn drop(&mut self) {
        self.request.request();
    }
}

#[cfg(unix)]
fn register(armed: Arc<AtomicBool>) -> io::Result<()> {
    use signal_hook::iterator::Signals;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // A thread and not a handler, because a handler may not restore the terminal.
    std::thread::Builder::new().name("signals".to_string()).spawn(move || {
        for signal in signals.forever() {
            if armed.swap(true, Ordering::SeqCst) {
                super::terminal::restore();
                signal_hook::low_level::exit(128 + signal);
            }
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn register(armed: Arc<AtomicBool>) -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // In this order, so that the shutdown checks the flag before the same signal sets it.
        flag::register_conditional_shutdown(signal, 128 + signal, armed.clone())?;
        flag::register(signal, armed.clone())?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    // The only test that may raise a signal: handlers are per process.
    #[test]
    fn the_first_signal_is_a_request() {
        let scope = SignalScope::begin().unwrap();
        let request = scope.request();
        assert!(!request.is_requested());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        let begin = Instant::now();
        while !request.is_requested() {
            assert!(begin.elapsed() < Duration::from_secs(10), "the signal arrives");
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(scope);
        let again = SignalScope::begin().unwrap();
        assert!(!again.request().is_requested());
    }
}
