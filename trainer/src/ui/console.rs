//! [`Console`]: prints notes for the user while something else is displayed.

use super::terminal;
use indicatif::ProgressBar;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Prints lines without damaging what is displayed. Clones print to the same place. Errors are ignored, because
/// a closed output must not end a training run.
#[derive(Clone)]
pub enum Console {
    /// Lines are written directly.
    Lines(Arc<Mutex<dyn Write + Send>>),
    /// Lines are printed above a progress bar.
    Bar(ProgressBar),
    /// Lines are kept until [`Console::release`], because the dashboard uses the whole screen.
    Held(Arc<Mutex<Vec<String>>>),
}

impl Console {
    /// Prints to stderr.
    pub fn stderr() -> Self {
        Console::Lines(Arc::new(Mutex::new(std::io::stderr())))
    }

    pub(super) fn held() -> Self {
        Console::Held(Arc::new(Mutex::new(Vec::new())))
    }

    /// Whether lines are kept until the screen is free.
    pub fn is_held(&self) -> bool {
        match self {
            Console::Held(_) => true,
            Console::Lines(_) | Console::Bar(_) => false,
        }
    }

    /// Prints one line.
    pub fn note(&self, text: &str) {
        match self {
            Console::Lines(writer) => {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = writeln!(writer, "{text}").and_then(|()| writer.flush());
            }
            Console::Bar(bar) => bar.println(text),
            Console::Held(lines) => lines.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_string()),
        }
    }

    /// Shows how far an evaluation is, if the display can be updated in place.
    pub fn evaluating(&self, done: u64, total: u64) {
        if let Console::Bar(bar) = self {
            bar.set_message(format!("evaluating {done}/{total}"));
        }
    }

    /// Prints the lines that were kept. Call it when the screen is free again.
    pub fn release(&self) {
        if let Console::Held(lines) = self {
            terminal::forget();
            let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
            let stderr = Console::stderr();
            lines.iter().for_each(|line| stderr.note(line));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A console and the bytes written to it.
    pub(crate) fn captured() -> (Console, Arc<Mutex<Vec<u8>>>) {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        (Console::Lines(bytes.clone()), bytes)
    }

    #[test]
    fn notes_of_all_clones_arrive_in_order() {
        let (console, bytes) = captured();
        console.note("one");
        console.clone().note("two");
        assert_eq!(*bytes.lock().unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn held_notes_are_given_out_once() {
        let console = Console::held();
        console.note("one");
        let Console::Held(lines) = &console else { panic!("a held console") };
        assert_eq!(*lines.lock().unwrap(), ["one"]);
        console.release();
        assert!(lines.lock().unwrap().is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_lost_output_is_no_error() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        Console::Lines(Arc::new(Mutex::new(full))).note("nobody reads this");
    }
}
