//! Shows the progress of a download on stderr, [`Progress`]: a bar with rate and remaining time on a terminal, and
//! a line every few seconds where stderr is a file or a log.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two lines about one file in a log.
const LINE_EVERY: Duration = Duration::from_secs(10);
const TEMPLATE: &str = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}";

/// The progress of all downloads of one model or dataset.
pub(crate) struct Progress {
    view: View,
    started: Instant,
    /// Bytes of all files to fetch.
    total: u64,
    /// Bytes present, over all files.
    position: u64,
    /// Bytes of the current file, included in `position`.
    file_position: u64,
    /// Bytes received over the network.
    fetched: u64,
    files: u64,
}

enum View {
    Bar(ProgressBar),
    Lines { name: String, last: Instant },
    Silent,
}

impl Progress {
    /// Progress with nothing to fetch yet. If `shown` is false, only warnings are printed.
    pub fn new(shown: bool) -> Self {
        let now = Instant::now();
        let view = if !shown {
            View::Silent
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
                bar.set_style(style.progress_chars("=> "));
            }
            View::Bar(bar)
        } else {
            View::Lines { name: String::new(), last: now }
        };
        Self { view, started: now, total: 0, position: 0, file_position: 0, fetched: 0, files: 0 }
    }

    /// Whether no file was announced yet.
    pub fn is_new(&self) -> bool {
        self.total == 0
    }

    /// Announces more files, of `bytes` in all.
    pub fn expect(&mut self, bytes: u64) {
        self.total += bytes;
        if let View::Bar(bar) = &self.view {
            bar.set_length(self.total);
        }
    }

    /// Begins the next file, of which `present` bytes are there already.
    pub fn start(&mut self, name: &str, present: u64) {
        self.files += 1;
        self.file_position = present;
        self.position += present;
        match &mut self.view {
            View::Bar(bar) => {
                bar.set_message(name.to_string());
                bar.set_position(self.position);
                // Bytes that were there already say nothing about the speed of the line.
                bar.reset_eta();
            }
            View::Lines { name: current, .. } => *current = name.to_string(),
            View::Silent => {}
        }
    }

    /// Counts `bytes` more of the current file.
    pub fn advance(&mut self, bytes: u64) {
        self.position += bytes;
        self.file_position += bytes;
        self.fetched += bytes;
        let rate = self.rate();
        match &mut self.view {
            View::Bar(bar) => bar.set_position(self.position),
            View::Lines { name, last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                let left = self.total.saturating_sub(self.position) as f64 / rate.max(1.0);
                eprintln!(
                    "{name}: {} of {}, {}/s, {} left",
                    HumanBytes(self.position),
                    HumanBytes(self.total),
                    HumanBytes(rate as u64),
                    HumanDuration(Duration::from_secs_f64(left.min(1e9)))
                );
            }
            View::Lines { .. } | View::Silent => {}
        }
    }

    /// Begins the current file again.
    pub fn restart(&mut self) {
        self.position -= self.file_position;
        self.file_position = 0;
        if let View::Bar(bar) = &self.view {
            bar.set_position(self.position);
            bar.reset_eta();
        }
    }

    /// Prints a line, if progress is shown.
    pub fn note(&self, text: &str) {
        match &self.view {
            View::Silent => {}
            View::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            View::Lines { .. } => eprintln!("{text}"),
        }
    }

    /// Prints a line in any case.
    pub fn warn(&self, text: &str) {
        match &self.view {
            View::Bar(bar) => bar.suspend(|| eprintln!("warning: {text}")),
            View::Lines { .. } | View::Silent => eprintln!("warning: {text}"),
        }
    }

    /// Ends the display, with a summary if anything was fetched.
    pub fn finish(self) {
        if let View::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
        if self.files > 0 {
            let (files, bytes, time) = (self.files, HumanBytes(self.fetched), HumanDuration(self.started.elapsed()));
            self.note(&format!("fetched {files} files, {bytes}, in {time}"));
        }
    }

    /// Bytes per second since the start.
    fn rate(&self) -> f64 {
        self.fetched as f64 / self.started.elapsed().as_secs_f64().max(1e-3)
    }
}
