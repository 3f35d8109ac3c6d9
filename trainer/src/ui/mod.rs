//! Displays a run, as [`Ui`] says: burn-train's terminal dashboard, a progress bar, or plain lines.
//!
//! Everything goes to stderr, so that a command's result on stdout can be piped; only the dashboard
//! draws on stdout, because burn-train does. `bar` and `plain` implement `Screen`, which gets whole
//! reports; the dashboard gets burn-train's metrics.

mod bar;
pub mod bars;
mod console;
mod eta;
mod format;
pub mod output;
mod plain;
mod screen;
mod signals;
mod silent;
mod terminal;
pub mod verbosity;

pub use console::Console;
pub(crate) use eta::Eta;
pub use format::duration;
pub(crate) use format::record as record_line;
pub(crate) use screen::Reports;
pub use signals::{SignalScope, StopRequest};

#[cfg(test)]
pub(crate) use console::tests::captured;

use bar::BarScreen;
use burn_train::Interrupter;
use burn_train::renderer::MetricsRenderer;
use burn_train::renderer::tui::TuiMetricsRendererWrapper;
use plain::PlainScreen;
use silent::Silent;
use std::io::IsTerminal;

/// The value of `--ui`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum UiChoice {
    /// A progress bar on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// The full-screen dashboard with plots
    Tui,
    /// A progress bar
    Bar,
    /// One line a logged step
    Plain,
}

/// The display that is used, after `auto` was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ui {
    /// burn-train's terminal dashboard.
    Tui,
    /// A progress bar.
    Bar,
    /// Plain lines.
    Plain,
    /// Nothing but what must be known.
    Silent,
}

/// Which of the two outputs is a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminals {
    /// stdout is a terminal.
    pub stdout: bool,
    /// stderr is a terminal.
    pub stderr: bool,
}

impl Terminals {
    /// The outputs of this process.
    pub fn of_process() -> Self {
        Self { stdout: std::io::stdout().is_terminal(), stderr: std::io::stderr().is_terminal() }
    }
}

impl Ui {
    /// The display for `choice` on these terminals. A display that cannot be drawn becomes plain lines.
    pub fn choose(choice: UiChoice, terminals: Terminals) -> Self {
        if verbosity::is_quiet() {
            return Ui::Silent;
        }
        match choice {
            UiChoice::Tui if terminals.stdout && terminals.stderr => Ui::Tui,
            UiChoice::Auto | UiChoice::Bar if terminals.stderr => Ui::Bar,
            UiChoice::Auto | UiChoice::Bar | UiChoice::Tui | UiChoice::Plain => Ui::Plain,
        }
    }

    /// Opens the display. `log_every` is the number of steps between plain lines.
    pub(crate) fn open(self, interrupter: &Interrupter, log_every: u64) -> Display {
        match self {
            Ui::Tui => {
                terminal::remember();
                let renderer = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
                terminal::keep_interrupt_key();
                Display { renderer: Box::new(renderer), console: Console::held(), reports: None }
            }
            Ui::Bar => {
                let screen = BarScreen::new();
                let console = Console::Bar(screen.bar());
                Display { renderer: Box::new(Silent), console, reports: Some(Reports::on(screen)) }
            }
            Ui::Plain => Display::plain(Console::stderr(), log_every),
            Ui::Silent => Display { renderer: Box::new(Silent), console: Console::stderr(), reports: None },
        }
    }
}

/// An open display.
pub(crate) struct Display {
    /// The renderer for burn-train.
    pub(crate) renderer: Box<dyn MetricsRenderer>,
    /// Where notes go.
    pub(crate) console: Console,
    /// The display of whole reports; absent where the dashboard shows burn-train's metrics.
    pub(crate) reports: Option<Reports>,
}

impl Display {
    /// Plain lines on `console`.
    pub(crate) fn plain(console: Console, log_every: u64) -> Self {
        let reports = Reports::on(PlainScreen::new(console.clone(), log_every));
        Self { renderer: Box::new(Silent), console, reports: Some(reports) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_everything_is_lines() {
        let choices = [UiChoice::Auto, UiChoice::Tui, UiChoice::Bar, UiChoice::Plain];
        let choose = |stdout, stderr| choices.map(|choice| Ui::choose(choice, Terminals { stdout, stderr }));
        assert_eq!(choose(true, true), [Ui::Bar, Ui::Tui, Ui::Bar, Ui::Plain]);
        assert_eq!(choose(false, true), [Ui::Bar, Ui::Plain, Ui::Bar, Ui::Plain]);
        assert_eq!(choose(true, false), [Ui::Plain; 4]);
        assert_eq!(choose(false, false), [Ui::Plain; 4]);
    }
}
