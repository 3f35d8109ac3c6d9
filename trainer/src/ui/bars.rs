//! Progress bars of everything but training: reading, tokenising, evaluating, loading.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use firebrand_datasets::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::verbosity;

/// A bar on stderr with rate and remaining time; hidden when stderr is not a terminal.
#[derive(Debug)]
pub struct DataProgress {
    bar: ProgressBar,
}

impl DataProgress {
    /// A bar that appears at the first report.
    pub fn new() -> Self {
        let bar = bar("{prefix:8} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} ETA {eta}");
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar }
    }

    /// Shows how far the reading of `split` is.
    pub fn report(&self, split: &str, progress: Progress) {
        if progress.rows == 0 {
            // A new split begins, with its own rates.
            self.bar.reset_elapsed();
            self.bar.reset_eta();
        }
        let seconds = self.bar.elapsed().as_secs_f64().max(1e-3);
        self.bar.set_prefix(split.to_string());
        self.bar.set_length(progress.total_bytes);
        self.bar.set_position(progress.bytes);
        self.bar.set_message(format!(
            "{} rows ({:.0}/s), {} tokens",
            progress.rows,
            progress.rows as f64 / seconds,
            progress.tokens
        ));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Default for DataProgress {
    fn default() -> Self {
        Self::new()
    }
}

/// A line with a turning sign on stderr while something is read or computed that has no other bar; nothing where stderr is
/// no terminal. With `-v`, a line with the time it took instead.
#[derive(Debug)]
pub struct Waiting {
    bar: ProgressBar,
    what: String,
    begun: Instant,
}

impl Waiting {
    /// `what` is done until the value is dropped, such as "reading the model".
    pub fn new(what: &str) -> Self {
        let bar = bar("{spinner} {msg} ({elapsed})");
        if verbosity::is_quiet() || verbosity::is_verbose() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_message(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { bar, what: what.to_string(), begun: Instant::now() }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        verbosity::detail(&format!("{}: {:.1} s", self.what, self.begun.elapsed().as_secs_f64()));
    }
}

/// A bar over rows on stderr; hidden when stderr is not a terminal.
pub fn rows_bar() -> ProgressBar {
    bar("{wide_bar} {pos}/{len} rows {per_sec} ETA {eta}")
}

/// A bar over optimiser steps on stderr; hidden when stderr is not a terminal.
pub fn steps_bar(steps: u64) -> ProgressBar {
    let bar = bar("{wide_bar} {pos}/{len} steps {per_sec} ETA {eta}");
    bar.set_length(steps);
    bar
}

/// A bar over the tensors of a model on stderr; hidden when stderr is not a terminal.
pub fn tensors_bar() -> ProgressBar {
    bar("{wide_bar} {pos}/{len} tensors ETA {eta}")
}

fn bar(template: &str) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
