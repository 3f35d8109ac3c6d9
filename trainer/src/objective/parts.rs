//! The named numbers of a step and of an evaluation.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pending::PendingLoss;
use super::retrieval::Recall;

/// Numbers that an objective reports beside the loss, by their names in `metrics.jsonl`. TensorBoard has them under
/// `train/`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Parts(BTreeMap<String, f64>);

impl Parts {
    /// Sets a number.
    pub fn set(&mut self, name: &str, value: f64) {
        self.0.insert(name.into(), value);
    }

    /// The number of that name; `None` if it is not reported.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All numbers, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// Reads `null` as NaN, because JSON has no numbers that are not finite.
impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
        Ok(Self(read.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect()))
    }
}

/// The loss of a step.
#[derive(Debug, Clone, Default)]
pub struct StepLoss {
    /// The objective's value over the whole step.
    pub loss: PendingLoss,
    /// The other numbers that it reports.
    pub parts: Parts,
}

/// The result of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluated {
    /// The objective's value over all rows.
    pub loss: f64,
    /// The other measurements.
    pub metrics: EvalMetrics,
}

/// The measurements of an evaluation beside the loss, with their names in `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EvalMetrics {
    /// Of labelled tokens.
    Tokens {
        /// `exp(loss)`.
        #[serde(rename = "eval_perplexity", deserialize_with = "null_is_nan")]
        perplexity: f64,
        /// Share of labelled tokens that the model found most likely, 0 to 1.
        #[serde(rename = "eval_token_accuracy", deserialize_with = "null_is_nan")]
        token_accuracy: f64,
        /// Labelled tokens evaluated.
        #[serde(rename = "eval_tokens")]
        tokens: u64,
    },
    /// Of pairs of a better and a worse answer.
    Rewards {
        /// Mean score of the better answers.
        #[serde(rename = "eval_rewards/chosen", deserialize_with = "null_is_nan")]
        chosen: f64,
        /// Mean score of the worse answers.
        #[serde(rename = "eval_rewards/rejected", deserialize_with = "null_is_nan")]
        rejected: f64,
        /// Mean difference of the two.
        #[serde(rename = "eval_rewards/margins", deserialize_with = "null_is_nan")]
        margins: f64,
        /// Share of pairs whose better answer has the higher score.
        #[serde(rename = "eval_rewards/accuracies", deserialize_with = "null_is_nan")]
        accuracies: f64,
        /// Pairs evaluated.
        #[serde(rename = "eval_pairs")]
        pairs: u64,
    },
    /// Of labelled rows.
    Classes {
        /// Share of right decisions; absent where rows have values.
        #[serde(rename = "eval_accuracy", default, skip_serializing_if = "Option::is_none")]
        accuracy: Option<f64>,
        /// Mean over all classes of F1; absent where rows have values.
        #[serde(rename = "eval_f1", default, skip_serializing_if = "Option::is_none")]
        f1: Option<f64>,
        /// Rows evaluated.
        #[serde(rename = "eval_rows")]
        rows: u64,
    },
    /// Of pairs.
    Pairs {
        /// Pairs evaluated.
        #[serde(rename = "eval_pairs")]
        pairs: u64,
        /// How many of them find each other.
        #[serde(flatten)]
        recall: Recall,
    },
    /// Numbers that the objective reports beside the loss, as in training; `eval_` stands before their names.
    Numbers(#[serde(serialize_with = "with_eval", deserialize_with = "without_eval")] Parts),
}

impl EvalMetrics {
    /// `exp(loss)` over tokens; NaN for anything else.
    pub fn perplexity(&self) -> f64 {
        match self {
            Self::Tokens { perplexity, .. } => *perplexity,
            Self::Rewards { .. } | Self::Classes { .. } | Self::Pairs { .. } | Self::Numbers(_) => f64::NAN,
        }
    }

    /// Share of labelled tokens that the model found most likely; NaN for anything else.
    pub fn token_accuracy(&self) -> f64 {
        match self {
            Self::Tokens { token_accuracy, .. } => *token_accuracy,
            Self::Rewards { .. } | Self::Classes { .. } | Self::Pairs { .. } | Self::Numbers(_) => f64::NAN,
        }
    }
}

impl EvalMetrics {
    /// The measurements of texts and of preferences by their names, without `eval_`; none of tokens.
    pub fn named(&self) -> Vec<(&str, f64)> {
        match self {
            Self::Tokens { .. } => vec![],
            Self::Pairs { recall, .. } => recall.named().to_vec(),
            Self::Numbers(parts) => parts.iter().collect(),
            Self::Rewards { chosen, rejected, margins, accuracies, .. } => vec![
                ("rewards/chosen", *chosen),
                ("rewards/rejected", *rejected),
                ("rewards/margins", *margins),
                ("rewards/accuracies", *accuracies),
            ],
            Self::Classes { accuracy, f1, .. } => {
                let named = [("accuracy", *accuracy), ("f1", *f1)];
                named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
            }
        }
    }
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// What stands before the names of an evaluation's numbers.
const EVAL: &str = "eval_";

fn with_eval<S: Serializer>(parts: &Parts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(parts.iter().map(|(name, value)| (format!("{EVAL}{name}"), value)))
}

fn without_eval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Parts, D::Error> {
    let mut parts = Parts::default();
    for (name, value) in BTreeMap::<String, Option<f64>>::deserialize(deserializer)? {
        let known =
            name.strip_prefix(EVAL).ok_or_else(|| D::Error::custom(format!("no number of an evaluation: {name}")))?;
        parts.set(known, value.unwrap_or(f64::NAN));
    }
    Ok(parts)
}
