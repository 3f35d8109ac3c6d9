//! `BarScreen`: a progress bar on stderr with steps, loss, tokens/s and ETA; evaluations stay above it. A narrow terminal
//! cuts the numbers before the ETA.

use super::format;
use super::screen::Screen;
use crate::observer::{EvalReport, StepReport};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

const TEMPLATE: &str = "{bar:24.cyan/dim} {pos}/{len}  {wide_msg}  {prefix}";

pub(super) struct BarScreen {
    bar: ProgressBar,
}

impl BarScreen {
    pub(super) fn new() -> Self {
        // With a length of zero the bar would be drawn as full.
        let bar = ProgressBar::new(1);
        // The template is constant, and a test checks it; the default is a bar too.
        let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("━╸─"));
        bar.set_message("starting");
        Self { bar }
    }

    /// A handle to the same bar.
    pub(super) fn bar(&self) -> ProgressBar {
        self.bar.clone()
    }
}

impl Screen for BarScreen {
    fn step(&mut self, report: &StepReport, eta: Option<Duration>) {
        self.bar.set_length(report.total_steps);
        self.bar.set_position(report.step);
        self.bar.set_message(format::numbers(report));
        self.bar.set_prefix(format::eta(eta));
    }

    fn evaluated(&mut self, report: &EvalReport) {
        self.bar.println(format!("step {}  {}", report.step, format::evaluation(report)));
    }

    fn finish(&mut self) {
        self.bar.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::tests::{eval_report, step_report};

    #[test]
    fn the_template_is_valid() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }

    /// A terminal of 70 columns that keeps what is written.
    #[derive(Debug, Clone, Default)]
    struct Narrow {
        written: std::sync::Arc<std::sync::Mutex<String>>,
    }

    impl indicatif::TermLike for Narrow {
        fn width(&self) -> u16 {
            70
        }
        fn move_cursor_up(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> std::io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> std::io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> std::io::Result<()> {
            self.written.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> std::io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_narrow_terminal_keeps_the_loss_and_the_eta() {
        let terminal = Narrow::default();
        let mut screen = BarScreen::new();
        screen.bar.set_draw_target(indicatif::ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        screen.step(&step_report(3, 9), Some(Duration::from_secs(7620)));
        screen.bar.force_draw();
        let shown = terminal.written.lock().unwrap().clone();
        let last = shown.rsplit("3/9").next().unwrap();
        assert!(last.contains("loss 0.7667") && last.trim_end().ends_with("ETA 2h 07m"), "{shown:?}");
    }

    #[test]
    fn the_bar_shows_the_newest_step() {
        let mut screen = BarScreen::new();
        screen.step(&step_report(3, 9), None);
        screen.evaluated(&eval_report(3));
        let bar = screen.bar();
        assert_eq!((bar.position(), bar.length()), (3, Some(9)));
        assert!(bar.message().contains("loss 0.7667") && bar.prefix() == "ETA --", "{}", bar.message());
        screen.finish();
        assert!(bar.is_finished());
    }
}
