//! Formats numbers for people.

use firebrand_datasets::RowKind;

use crate::objective::{EvalMetrics, Parts};
use crate::observer::{EvalReport, Record, StepReport};
use std::time::Duration;

/// `42s`, `3m 05s`, `2h 07m`, `3d 04h`.
pub fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days}d {:02}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {:02}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {:02}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

/// `loss 2.3456  lr 2.00e-4  grad 0.912  1234 tokens/s  ETA 3m 05s`; of rows of tensors, rows/s.
pub(super) fn step(report: &StepReport, left: Option<Duration>) -> String {
    format!("{}  {}", numbers(report), eta(left))
}

/// `ETA 3m 05s`.
pub(super) fn eta(left: Option<Duration>) -> String {
    format!("ETA {}", left.map_or_else(|| "--".to_string(), duration))
}

/// `loss 2.3456  lr 2.00e-4  grad 0.912  1234 tokens/s`, and what the objective reports beside it.
pub(super) fn numbers(report: &StepReport) -> String {
    let unit = match report.rows {
        RowKind::Tokens => "tokens",
        RowKind::Tensors => "rows",
    };
    format!(
        "loss {:.4}  lr {:.2e}  grad {:.3}  {:.0} {unit}/s{}",
        report.loss,
        report.learning_rate,
        report.grad_norm,
        report.tokens_per_second,
        named(&report.parts),
    )
}

/// `  kl 0.1234  rewards/margins 1.2340`: what an objective reports beside the loss.
fn named(parts: &Parts) -> String {
    parts.iter().map(|(name, value)| format!("  {name} {value:.4}")).collect()
}

/// `eval loss 1.1000  perplexity 3.00  accuracy 62.5%`.
pub(super) fn evaluation(report: &EvalReport) -> String {
    let loss = report.loss;
    match &report.metrics {
        EvalMetrics::Tokens { perplexity, token_accuracy, .. } => {
            format!("eval loss {loss:.4}  perplexity {perplexity:.2}  accuracy {:.1}%", 100.0 * token_accuracy)
        }
        EvalMetrics::Pairs { pairs, .. } => format!("eval loss {loss:.4}  {pairs} pairs"),
        EvalMetrics::Rewards { margins, accuracies, .. } => {
            format!("eval loss {loss:.4}  margin {margins:.4}  accuracy {:.1}%", 100.0 * accuracies)
        }
        EvalMetrics::Classes { accuracy: Some(accuracy), f1: Some(f1), .. } => {
            format!("eval loss {loss:.4}  accuracy {:.1}%  f1 {f1:.3}", 100.0 * accuracy)
        }
        EvalMetrics::Classes { rows, .. } => format!("eval loss {loss:.4}  {rows} rows"),
        EvalMetrics::Numbers(parts) => format!("eval loss {loss:.4}{}", named(parts)),
    }
}

/// A record as plain lines have it.
pub(crate) fn record(record: &Record) -> String {
    match record {
        Record::Step(report) => format!("step {}/{}  {}", report.step, report.total_steps, numbers(report)),
        Record::Eval(report) => format!("step {}  {}", report.step, evaluation(report)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (185, "3m 05s"), (7620, "2h 07m"), (273_600, "3d 04h")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
