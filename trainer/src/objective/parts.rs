//! The named numbers of a step and of an evaluation.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Numbers that an objective reports beside the loss, by their names in `metrics.jsonl`; in TensorBoard they stand under `train/`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Parts(BTreeMap<String, f64>);

impl Parts {
    /// Adds a number.
    pub fn set(&mut self, name: &str, value: f64) {
        self.0.insert(name.into(), value);
    }

    /// The number of that name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// A number that is not finite is `null` in JSON.
impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
        Ok(Self(read.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect()))
    }
}

/// What a step cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepLoss {
    /// What is minimised, over the whole step.
    pub loss: f64,
    /// What it is made of.
    pub parts: Parts,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// What is minimised, over all rows.
    pub loss: f64,
    /// The rest of it.
    pub metrics: EvalMetrics,
}

/// What an evaluation found beside the loss, with its names in `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EvalMetrics {
    /// Over labelled tokens.
    Tokens {
        /// `exp(loss)`.
        #[serde(rename = "eval_perplexity", deserialize_with = "null_is_nan")]
        perplexity: f64,
        /// Share of labelled tokens that are the model's first choice, 0 to 1.
        #[serde(rename = "eval_token_accuracy", deserialize_with = "null_is_nan")]
        token_accuracy: f64,
        /// Labelled tokens evaluated.
        #[serde(rename = "eval_tokens")]
        tokens: u64,
    },
    /// Over pairs.
    Pairs {
        /// Pairs evaluated.
        #[serde(rename = "eval_pairs")]
        pairs: u64,
    },
}

impl EvalMetrics {
    /// `exp(loss)` over tokens; NaN for what has none.
    pub fn perplexity(&self) -> f64 {
        match self {
            Self::Tokens { perplexity, .. } => *perplexity,
            Self::Pairs { .. } => f64::NAN,
        }
    }

    /// Share of labelled tokens that are the model's first choice; NaN for what has none.
    pub fn token_accuracy(&self) -> f64 {
        match self {
            Self::Tokens { token_accuracy, .. } => *token_accuracy,
            Self::Pairs { .. } => f64::NAN,
        }
    }
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
