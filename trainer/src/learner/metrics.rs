//! The metrics that burn-train's dashboard shows of a report: numbers to plot, and a line about the progress of the
//! run.

use crate::objective::EvalMetrics;
use crate::observer::{EvalReport, Record, StepReport};
use crate::ui::{Eta, duration};
use burn::tensor::TensorReadError;
use burn_train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use std::sync::Arc;

impl Adaptor<Record> for StepReport {
    fn adapt(&self) -> Record {
        Record::Step(self.clone())
    }
}

impl Adaptor<Record> for EvalReport {
    fn adapt(&self) -> Record {
        Record::Eval(self.clone())
    }
}

/// A line about the progress of the run. It begins with what a small terminal still shows.
#[derive(Clone, Default)]
pub(super) struct ProgressMetric {
    eta: Eta,
    /// Step and loss of the lowest evaluation.
    best: Option<(u64, f64)>,
}

impl Metric for ProgressMetric {
    type Input = Record;

    fn name(&self) -> MetricName {
        Arc::new("Progress".to_string())
    }

    fn update(&mut self, record: &Record, _metadata: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        let shown = self.shown(record);
        Ok(SerializedEntry::new(shown.clone(), shown))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(SerializedEntry::not_available(None))
    }

    fn clear(&mut self) {}
}

impl ProgressMetric {
    fn shown(&mut self, record: &Record) -> String {
        match record {
            Record::Step(report) => format!(
                "loss {:.4}, {} left, step {}/{}, epoch {:.2}, {} tokens, {}{}",
                report.loss,
                self.eta.update(report).map_or_else(|| "--".to_string(), duration),
                report.step,
                report.total_steps,
                report.epoch,
                report.input_tokens_total,
                duration(report.elapsed),
                report.parts.iter().map(|(name, value)| format!(", {name} {value:.4}")).collect::<String>()
            ),
            Record::Eval(report) => {
                let best = self.best.filter(|(_, loss)| *loss <= report.loss).unwrap_or((report.step, report.loss));
                self.best = Some(best);
                let rows = match &report.metrics {
                    EvalMetrics::Tokens { tokens, .. } => format!(", {tokens} tokens"),
                    EvalMetrics::Rewards { pairs, .. } | EvalMetrics::Pairs { pairs, .. } => format!(", {pairs} pairs"),
                    EvalMetrics::Classes { rows, .. } => format!(", {rows} rows"),
                    EvalMetrics::Numbers(parts) => {
                        parts.iter().map(|(name, value)| format!(", {name} {value:.4}")).collect()
                    }
                };
                format!("last {:.4} (step {}), best {:.4} (step {}){rows}", report.loss, report.step, best.1, best.0)
            }
        }
    }
}

/// One number of a report. It is never averaged.
#[derive(Clone)]
pub(super) struct NumberMetric {
    name: &'static str,
    attributes: NumericAttributes,
    value: fn(&Record) -> f64,
    shown: fn(f64) -> String,
    current: f64,
}

impl NumberMetric {
    /// Loss, learning rate, gradient norm and tokens/s.
    pub(super) fn of_training() -> Vec<Self> {
        vec![
            Self::loss(),
            Self::new(
                "Learning Rate",
                false,
                |value| format!("{value:.3e}"),
                |record| step(record, |report| report.learning_rate),
            ),
            Self::new(
                "Gradient Norm",
                false,
                |value| format!("{value:.4}"),
                |record| step(record, |report| report.grad_norm),
            ),
            Self::new(
                "Tokens/s",
                true,
                |value| format!("{value:.0}"),
                |record| step(record, |report| report.tokens_per_second),
            ),
        ]
    }

    /// Loss, perplexity and token accuracy.
    pub(super) fn of_evaluation() -> Vec<Self> {
        vec![
            Self::loss(),
            Self::new(
                "Perplexity",
                false,
                |value| format!("{value:.3}"),
                |record| evaluation(record, |report| report.metrics.perplexity()),
            ),
            Self::new(
                "Token Accuracy",
                true,
                |value| format!("{value:.4}"),
                |record| evaluation(record, |report| report.metrics.token_accuracy()),
            ),
        ]
    }

    /// One metric for both splits, so that the dashboard draws both into one plot.
    fn loss() -> Self {
        Self::new(
            "Loss",
            false,
            |value| format!("{value:.4}"),
            |record| match record {
                Record::Step(report) => report.loss,
                Record::Eval(report) => report.loss,
            },
        )
    }

    fn new(name: &'static str, higher_is_better: bool, shown: fn(f64) -> String, value: fn(&Record) -> f64) -> Self {
        Self { name, attributes: NumericAttributes { unit: None, higher_is_better }, value, shown, current: f64::NAN }
    }
}

impl Metric for NumberMetric {
    type Input = Record;

    fn name(&self) -> MetricName {
        Arc::new(self.name.to_string())
    }

    fn attributes(&self) -> MetricAttributes {
        self.attributes.clone().into()
    }

    fn update(&mut self, record: &Record, _metadata: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        self.current = (self.value)(record);
        let serialized = NumericEntry::Value(self.current).serialize();
        Ok(SerializedEntry::new((self.shown)(self.current), serialized))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        let serialized = self.final_value().serialize();
        Ok(SerializedEntry::new((self.shown)(self.current), serialized))
    }

    fn clear(&mut self) {
        self.current = f64::NAN;
    }
}

impl Numeric for NumberMetric {
    /// `None` for a value that is not finite, because it cannot be plotted.
    fn value(&self) -> Option<NumericEntry> {
        self.current.is_finite().then_some(NumericEntry::Value(self.current))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        self.value()
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.current)
    }
}

fn step(record: &Record, value: fn(&StepReport) -> f64) -> f64 {
    match record {
        Record::Step(report) => value(report),
        Record::Eval(_) => f64::NAN,
    }
}

fn evaluation(record: &Record, value: fn(&EvalReport) -> f64) -> f64 {
    match record {
        Record::Step(_) => f64::NAN,
        Record::Eval(report) => value(report),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::tests::{eval_report, step_report};

    fn line(metric: &mut ProgressMetric, record: &Record) -> String {
        metric.shown(record)
    }

    #[test]
    fn the_dashboard_tells_loss_time_left_last_and_best_evaluation() {
        let mut metric = ProgressMetric::default();
        line(&mut metric, &Record::Step(step_report(3, 9)));
        let shown = line(&mut metric, &Record::Step(step_report(4, 9)));
        assert!(shown.starts_with("loss 0.6000, 7s left, step 4/9, epoch 1.33, "), "{shown}");
        for (step, loss) in [(3, 2.0), (6, 1.0), (9, 1.5)] {
            let shown = line(&mut metric, &Record::Eval(EvalReport { loss, ..eval_report(step) }));
            let best = if step == 3 { "best 2.0000 (step 3)" } else { "best 1.0000 (step 6)" };
            assert!(shown.starts_with(&format!("last {loss:.4} (step {step}), {best}, ")), "{shown}");
        }
    }
}
