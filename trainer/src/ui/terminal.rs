//! Keeps Ctrl-C working under the full-screen dashboard and restores the terminal after it.
//!
//! burn-train's dashboard puts the terminal into raw mode, in which Ctrl-C is an ordinary key, and the
//! dashboard ignores that key. This module makes the terminal send Ctrl-C as a signal again, and
//! restores the terminal when the process ends without the dashboard's own clean-up.

#[cfg(unix)]
pub(super) use unix::{forget, keep_interrupt_key, remember, restore};

#[cfg(not(unix))]
pub(super) use elsewhere::{forget, keep_interrupt_key, remember};

#[cfg(unix)]
mod unix {
    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
    use std::io::{IsTerminal, Write};
    use std::sync::{Mutex, PoisonError};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    /// Mouse reports off, main screen, cursor visible.
    const MAIN_SCREEN: &[u8] = b"\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?1049l\x1b[?25h";

    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

    /// Stores the terminal's modes for [`restore`]. Call it before the dashboard starts.
    pub(crate) fn remember() {
        *before() = modes();
    }

    /// Drops the stored modes, after the dashboard has restored the terminal itself.
    pub(crate) fn forget() {
        *before() = None;
    }

    /// Restores the terminal, if a dashboard is on it.
    pub(crate) fn restore() {
        if let Some(modes) = before().take() {
            // The process is about to end, so an error is ignored.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &modes);
            let mut stdout = std::io::stdout();
            let _ = stdout.write_all(MAIN_SCREEN).and_then(|()| stdout.flush());
        }
    }

    /// Waits until the dashboard, which starts on its own thread, has set raw mode, and makes Ctrl-C a
    /// signal again. If that fails, the dashboard's own `q` still works.
    pub(crate) fn keep_interrupt_key() {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(2) {
            let Some(mut modes) = modes() else {
                return;
            };
            if !modes.local_modes.contains(LocalModes::ICANON) {
                modes.local_modes.insert(LocalModes::ISIG);
                let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &modes);
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn modes() -> Option<Termios> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        tcgetattr(stdin).ok()
    }

    fn before() -> std::sync::MutexGuard<'static, Option<Termios>> {
        BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(not(unix))]
mod elsewhere {
    // The console of Windows keeps Ctrl-C a signal in raw mode, too.
    pub(crate) fn remember() {}
    pub(crate) fn forget() {}
    pub(crate) fn keep_interrupt_key() {}
}
