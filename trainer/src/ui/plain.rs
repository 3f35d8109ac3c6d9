//! `PlainScreen`: one line for each logged step, for logs, pipes and CI.

use super::screen::Screen;
use super::{Console, format};
use crate::observer::{EvalReport, Record, StepReport};
use std::time::Duration;

pub(super) struct PlainScreen {
    console: Console,
    log_every: u64,
}

impl PlainScreen {
    pub(super) fn new(console: Console, log_every: u64) -> Self {
        Self { console, log_every }
    }
}

impl Screen for PlainScreen {
    fn step(&mut self, report: &StepReport, eta: Option<Duration>) {
        if Record::Step(report.clone()).is_logged(self.log_every) {
            self.console.note(&format!("step {}/{}  {}", report.step, report.total_steps, format::step(report, eta)));
        }
    }

    fn evaluated(&mut self, report: &EvalReport) {
        self.console.note(&format!("step {}  {}", report.step, format::evaluation(report)));
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::super::console::tests::captured;
    use super::*;
    use crate::observer::tests::{eval_report, step_report};

    #[test]
    fn lines_follow_the_logging_interval() {
        let (console, bytes) = captured();
        let mut screen = PlainScreen::new(console, 2);
        for step in 1..=3 {
            screen.step(&step_report(step, 9), Some(Duration::from_secs(90)));
        }
        screen.evaluated(&eval_report(3));
        let text = String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "step 1/9  loss 2.1000  lr 6.67e-5  grad 0.143  1234 tokens/s  ETA 1m 30s\n\
             step 2/9  loss 1.1000  lr 6.67e-5  grad 0.143  1234 tokens/s  ETA 1m 30s\n\
             step 3  eval loss 1.1000  perplexity 3.00  accuracy 62.5%\n"
        );
    }
}
