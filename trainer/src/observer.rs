//! [`Observer`]: how a training loop reports its steps and evaluations and learns that it should stop.
//!
//! The loop is a plain function over `&mut dyn Observer` and knows no terminal, file or signal.
//! [`crate::learner`] implements the trait on burn-train; [`Collector`] keeps reports in memory.
//! The serialised reports are the lines of `metrics.jsonl`. Nothing is averaged: a line is one step.
//! A value that is not finite is written as JSON `null` and read as NaN.

use firebrand_datasets::RowKind;

use crate::objective::{EvalMetrics, Parts};
use crate::run::RunError;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

/// Receives the reports of a run. An error it returns ends the run.
pub trait Observer {
    /// An optimiser step is complete. Called for every step; the observer decides what it logs.
    fn step(&mut self, report: &StepReport) -> Result<(), RunError>;

    /// An evaluation is running: `done` of `total` packs.
    fn evaluating(&mut self, _done: u64, _total: u64) {}

    /// An evaluation is complete.
    fn evaluated(&mut self, report: &EvalReport) -> Result<(), RunError>;

    /// The questions of `[sample]` were answered.
    fn sampled(&mut self, _report: &SampleReport) -> Result<(), RunError> {
        Ok(())
    }

    /// A message for the user, such as "checkpoint-50 written".
    fn note(&mut self, _text: &str) {}

    /// Returns when everything reported so far is on disk. Called before a checkpoint, so that
    /// the metrics on disk reach at least to the newest checkpoint.
    fn flush(&mut self) -> Result<(), RunError> {
        Ok(())
    }

    /// Whether the loop should write a checkpoint after this step and return.
    fn stop_requested(&self) -> bool {
        false
    }
}

/// The report of one optimiser step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Optimiser steps completed, this one included.
    pub step: u64,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Passes over the training data completed, with the current one as a fraction.
    #[serde(deserialize_with = "null_is_nan")]
    pub epoch: f64,
    /// The objective's value over the whole step. For `sft`: the weighted mean over labelled tokens, in nats.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// The other numbers of the objective, such as `router_aux_loss`: the load-balancing loss without its coefficient.
    #[serde(flatten)]
    pub parts: Parts,
    /// The learning rate of this step, after the schedule.
    #[serde(deserialize_with = "null_is_nan")]
    pub learning_rate: f64,
    /// Global gradient norm over all trained parameters, before clipping.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// What the rows of the run are. Rows of tensors count as one token each.
    #[serde(skip)]
    pub rows: RowKind,
    /// All tokens of this step that went through the model, those without a label included.
    #[serde(default)]
    pub input_tokens: u64,
    /// Labelled tokens of this step.
    pub tokens: u64,
    /// Labelled tokens since the beginning of the run.
    #[serde(rename = "num_tokens")]
    pub tokens_total: u64,
    /// All tokens since the beginning of the run, those without a label included.
    #[serde(rename = "num_input_tokens", default)]
    pub input_tokens_total: u64,
    /// Tokens per second of this step: `input_tokens` over its time.
    #[serde(deserialize_with = "null_is_nan")]
    pub tokens_per_second: f64,
    /// Time spent training since the beginning of the run, earlier program starts included.
    #[serde(rename = "elapsed_seconds", with = "seconds")]
    pub elapsed: Duration,
}

/// The report of one evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Optimiser steps completed.
    pub step: u64,
    /// Passes over the training data completed, with the current one as a fraction.
    #[serde(deserialize_with = "null_is_nan")]
    pub epoch: f64,
    /// The objective's value over all evaluation rows. For `sft`: the weighted mean over labelled tokens, in nats.
    #[serde(rename = "eval_loss", deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// The other measurements.
    #[serde(flatten)]
    pub metrics: EvalMetrics,
}

/// The answers to the questions of `[sample]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleReport {
    /// Optimiser steps completed.
    pub step: u64,
    /// An answer to each question.
    pub answers: Vec<Answer>,
}

/// A question and the model's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The question.
    pub prompt: String,
    /// The answer, without special tokens.
    pub text: String,
}

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// A training step.
    Step(StepReport),
    /// An evaluation.
    Eval(EvalReport),
}

impl Record {
    /// Optimiser steps completed at the report.
    pub fn step(&self) -> u64 {
        match self {
            Record::Step(report) => report.step,
            Record::Eval(report) => report.step,
        }
    }

    /// The record as a JSON object on one line, without the line end.
    pub fn to_line(&self) -> String {
        // Neither report holds a map or a type whose serialisation can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Record::to_line`] returned; `None` for anything else.
    pub fn from_line(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// Whether a run that logs every `every` steps logs this record. The first and the last step and
    /// all evaluations are always logged.
    pub fn is_logged(&self, every: u64) -> bool {
        match self {
            Record::Eval(_) => true,
            Record::Step(report) => {
                report.step <= 1 || report.step == report.total_steps || report.step.is_multiple_of(every.max(1))
            }
        }
    }
}

/// Keeps every report in memory and never asks to stop.
#[derive(Debug, Default)]
pub struct Collector {
    /// Reports of all steps.
    pub steps: Vec<StepReport>,
    /// Reports of all evaluations.
    pub evaluations: Vec<EvalReport>,
}

impl Observer for Collector {
    fn step(&mut self, report: &StepReport) -> Result<(), RunError> {
        self.steps.push(report.clone());
        Ok(())
    }

    fn evaluated(&mut self, report: &EvalReport) -> Result<(), RunError> {
        self.evaluations.push(report.clone());
        Ok(())
    }
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

mod seconds {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn step_report(step: u64, total_steps: u64) -> StepReport {
        StepReport {
            rows: RowKind::Tokens,
            step,
            total_steps,
            epoch: step as f64 / 3.0,
            loss: 2.0 / step as f64 + 0.1,
            parts: Parts::default(),
            learning_rate: 2e-4 / 3.0,
            grad_norm: 1.0 / 7.0,
            input_tokens: 33_554_434,
            tokens: 16_777_217,
            tokens_total: 16_777_217 * step,
            input_tokens_total: 33_554_434 * step,
            tokens_per_second: 1234.5,
            elapsed: Duration::from_millis(1500 * step),
        }
    }

    pub(crate) fn eval_report(step: u64) -> EvalReport {
        EvalReport {
            step,
            epoch: step as f64 / 3.0,
            loss: 1.1,
            metrics: EvalMetrics::Tokens { perplexity: 1.1_f64.exp(), token_accuracy: 0.625, tokens: 640 },
        }
    }

    #[test]
    fn records_round_trip_bit_for_bit() {
        for record in [Record::Step(step_report(3, 7)), Record::Eval(eval_report(3))] {
            let line = record.to_line();
            assert!(!line.contains('\n'));
            assert_eq!(Record::from_line(&line), Some(record));
        }
    }

    #[test]
    fn values_that_are_not_finite_become_null_and_return_as_nan() {
        let mut report = step_report(1, 2);
        report.loss = f64::NAN;
        report.grad_norm = f64::INFINITY;
        let line = Record::Step(report).to_line();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(value["loss"].is_null() && value["grad_norm"].is_null());
        let Some(Record::Step(read)) = Record::from_line(&line) else { panic!("a step record") };
        assert!(read.loss.is_nan() && read.grad_norm.is_nan());
    }

    #[test]
    fn the_interval_keeps_first_last_and_evaluations() {
        let logged: Vec<u64> = (1..=7).filter(|step| Record::Step(step_report(*step, 7)).is_logged(3)).collect();
        assert_eq!(logged, [1, 3, 6, 7]);
        assert!(Record::Eval(eval_report(4)).is_logged(3));
    }
}
