//! [`TrainerState`], the content of `trainer_state.json`: the keys and the `log_history` of
//! transformers' `TrainerState` (transformers 5, `trainer_callback.py`), for plots and scripts made for it.
//!
//! The file is for other programs. A resume reads it back to append to
//! [`TrainerState::log_history`]; everything else that a resume needs is in `state.json`.

use super::{RunError, write_atomically};
use crate::objective::EvalMetrics;
use crate::observer::{EvalReport, StepReport};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;

/// The file's name in a checkpoint.
pub const TRAINER_STATE: &str = "trainer_state.json";

/// The content of `trainer_state.json`, in the order transformers writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainerState {
    /// Step of the best evaluation.
    pub best_global_step: Option<u64>,
    /// Value of the best evaluation.
    pub best_metric: Option<f64>,
    /// The checkpoint of the best evaluation, if it stays by `checkpoint.best`.
    pub best_model_checkpoint: Option<String>,
    /// Passes over the training data completed, with the current one as a fraction.
    pub epoch: f64,
    /// Steps between two evaluations.
    pub eval_steps: u64,
    /// Optimiser steps completed.
    pub global_step: u64,
    /// Always false.
    pub is_hyper_param_search: bool,
    /// Always true.
    pub is_local_process_zero: bool,
    /// Always true.
    pub is_world_process_zero: bool,
    /// Everything that was logged.
    pub log_history: Vec<Map<String, Value>>,
    /// Steps between two logged steps.
    pub logging_steps: u64,
    /// Steps of the whole run.
    pub max_steps: u64,
    /// All tokens that went through the model, not only the labelled ones.
    pub num_input_tokens_seen: u64,
    /// Never set; always 0.
    pub num_train_epochs: u64,
    /// Steps between two checkpoints.
    pub save_steps: u64,
    /// What transformers' own callbacks save.
    pub stateful_callbacks: Value,
    /// Not counted; always 0.
    pub total_flos: f64,
    /// Packs in a micro-batch.
    pub train_batch_size: Option<u64>,
    /// Never set.
    pub trial_name: Option<String>,
    /// Never set.
    pub trial_params: Option<Value>,
}

impl Default for TrainerState {
    fn default() -> Self {
        Self {
            best_global_step: None,
            best_metric: None,
            best_model_checkpoint: None,
            epoch: 0.0,
            eval_steps: 500,
            global_step: 0,
            is_hyper_param_search: false,
            is_local_process_zero: true,
            is_world_process_zero: true,
            log_history: Vec::new(),
            logging_steps: 500,
            max_steps: 0,
            num_input_tokens_seen: 0,
            num_train_epochs: 0,
            save_steps: 500,
            stateful_callbacks: json!({
                "TrainerControl": {
                    "args": {
                        "should_epoch_stop": false,
                        "should_evaluate": false,
                        "should_log": false,
                        "should_save": true,
                        "should_training_stop": false
                    },
                    "attributes": {}
                }
            }),
            total_flos: 0.0,
            train_batch_size: None,
            trial_name: None,
            trial_params: None,
        }
    }
}

impl TrainerState {
    /// Appends a logged step.
    pub fn log_step(&mut self, report: &StepReport) {
        self.log([
            ("epoch", number(report.epoch)),
            ("grad_norm", number(report.grad_norm)),
            ("learning_rate", number(report.learning_rate)),
            ("loss", number(report.loss)),
            ("num_tokens", json!(report.tokens_total)),
            ("step", json!(report.step)),
        ]);
        if let Some(entry) = self.log_history.last_mut() {
            entry.extend(report.parts.iter().map(|(name, value)| (name.to_string(), number(value))));
        }
    }

    /// Appends an evaluation.
    pub fn log_evaluation(&mut self, report: &EvalReport) {
        let (epoch, loss, step) = (number(report.epoch), number(report.loss), json!(report.step));
        match &report.metrics {
            EvalMetrics::Tokens { perplexity, token_accuracy, tokens } => self.log([
                ("epoch", epoch),
                ("eval_loss", loss),
                ("eval_mean_token_accuracy", number(*token_accuracy)),
                ("eval_num_tokens", json!(tokens)),
                ("eval_perplexity", number(*perplexity)),
                ("step", step),
            ]),
            EvalMetrics::Pairs { pairs, recall } => {
                self.log([("epoch", epoch), ("eval_loss", loss), ("eval_num_pairs", json!(pairs)), ("step", step)]);
                if let Some(entry) = self.log_history.last_mut() {
                    let named = recall.named().into_iter();
                    entry.extend(named.map(|(name, value)| (format!("eval_{name}"), number(value))));
                }
            }
            EvalMetrics::Rewards { chosen, rejected, margins, accuracies, pairs } => self.log([
                ("epoch", epoch),
                ("eval_loss", loss),
                ("eval_num_pairs", json!(pairs)),
                ("eval_rewards/accuracies", number(*accuracies)),
                ("eval_rewards/chosen", number(*chosen)),
                ("eval_rewards/margins", number(*margins)),
                ("eval_rewards/rejected", number(*rejected)),
                ("step", step),
            ]),
            EvalMetrics::Classes { accuracy, f1, rows } => {
                let share = |value: Option<f64>| value.map_or(Value::Null, number);
                self.log([
                    ("epoch", epoch),
                    ("eval_accuracy", share(*accuracy)),
                    ("eval_f1", share(*f1)),
                    ("eval_loss", loss),
                    ("eval_num_rows", json!(rows)),
                    ("step", step),
                ]);
            }
            EvalMetrics::Numbers(parts) => {
                self.log([("epoch", epoch), ("eval_loss", loss), ("step", step)]);
                if let Some(entry) = self.log_history.last_mut() {
                    entry.extend(parts.iter().map(|(name, value)| (format!("eval_{name}"), number(value))));
                }
            }
        }
    }

    /// Writes `trainer_state.json` into `folder`.
    pub fn write(&self, folder: &Path) -> Result<(), RunError> {
        let path = folder.join(TRAINER_STATE);
        let mut text =
            serde_json::to_string_pretty(self).map_err(|error| RunError::io("writing", &path, error.into()))?;
        text.push('\n');
        write_atomically(&path, text.as_bytes())
    }

    /// Reads `trainer_state.json` from `folder`. Keys of other versions of transformers are ignored.
    pub fn read(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join(TRAINER_STATE);
        let text = fs::read_to_string(&path).map_err(|error| RunError::io("reading", &path, error))?;
        serde_json::from_str(&text).map_err(|error| RunError::Malformed {
            path,
            expected: "the state of a trainer",
            found: error.to_string(),
        })
    }

    fn log<const N: usize>(&mut self, entry: [(&str, Value); N]) {
        self.log_history.push(entry.into_iter().map(|(key, value)| (key.to_string(), value)).collect());
    }
}

/// A value that is not finite becomes `null`, because JSON has no NaN.
fn number(value: f64) -> Value {
    json!(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::tests::{eval_report, step_report};

    #[test]
    fn the_keys_are_those_of_transformers_in_its_order() {
        let value = serde_json::to_value(TrainerState::default()).unwrap();
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        // dataclasses.fields(TrainerState) of transformers 5, sorted as save_to_json sorts them.
        let expected = [
            "best_global_step",
            "best_metric",
            "best_model_checkpoint",
            "epoch",
            "eval_steps",
            "global_step",
            "is_hyper_param_search",
            "is_local_process_zero",
            "is_world_process_zero",
            "log_history",
            "logging_steps",
            "max_steps",
            "num_input_tokens_seen",
            "num_train_epochs",
            "save_steps",
            "stateful_callbacks",
            "total_flos",
            "train_batch_size",
            "trial_name",
            "trial_params",
        ];
        assert_eq!(keys, expected);
    }

    #[test]
    fn the_state_round_trips_with_its_history() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = TrainerState { best_metric: Some(0.1 + 0.2), global_step: 2, ..TrainerState::default() };
        state.log_step(&step_report(1, 3));
        state.log_evaluation(&eval_report(1));
        state.write(folder.path()).unwrap();
        let read = TrainerState::read(folder.path()).unwrap();
        assert_eq!(read, state);
        assert_eq!(read.log_history[0]["learning_rate"].as_f64().unwrap(), 2e-4 / 3.0);
        assert_eq!(read.log_history[1]["eval_loss"].as_f64().unwrap(), 1.1);
    }

    #[test]
    fn a_loss_that_is_not_finite_is_valid_json() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = step_report(1, 3);
        report.loss = f64::NAN;
        let mut state = TrainerState::default();
        state.log_step(&report);
        state.write(folder.path()).unwrap();
        let read = TrainerState::read(folder.path()).unwrap();
        assert!(read.log_history[0]["loss"].is_null());
    }
}
