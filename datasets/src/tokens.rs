//! Tokens of an example: [`Tokens`] is a sequence of token ids with labels and weights.

use std::ops::Range;

use serde::Serialize;

pub use crate::label::NOT_TRAINED;
use crate::label::RowLabel;
use crate::record::Role;

/// Token ids, labels and weights of one example.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tokens {
    /// The rendered text, where the row has one and it was asked for; all of it, even when tokens were cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Token ids.
    pub input_ids: Vec<u32>,
    /// As long as `input_ids`: a token's own id where it is trained, else -100. The shift by one happens in the batch.
    pub labels: Vec<i64>,
    /// As long as `input_ids`: factor on the loss of predicting the token; 0 where it is not trained.
    pub weights: Vec<f32>,
    /// The role of the message that each token belongs to, where it was asked for and is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<Option<Role>>>,
    /// The label of the whole row, in rows that are classified or scored. No token of them is labelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<RowLabel>,
}

impl Tokens {
    /// Number of tokens that are learned to be predicted. The first token never is, because nothing comes before it. A row
    /// that has a label as a whole counts as one.
    pub fn labelled(&self) -> usize {
        if let Some(row) = &self.label {
            return usize::from(row.weight > 0.0);
        }
        self.labels.iter().skip(1).filter(|label| **label != NOT_TRAINED).count()
    }

    /// The tokens of `range`, with their labels, weights and roles.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        Self {
            text: self.text.clone(),
            input_ids: self.input_ids[range.clone()].to_vec(),
            labels: self.labels[range.clone()].to_vec(),
            weights: self.weights[range.clone()].to_vec(),
            roles: self.roles.as_ref().map(|roles| roles[range].to_vec()),
            label: self.label.clone(),
        }
    }

    /// Appends the tokens of `other`. The text stays as it is.
    pub(crate) fn append(&mut self, other: Self) {
        self.input_ids.extend(other.input_ids);
        self.labels.extend(other.labels);
        self.weights.extend(other.weights);
        if let (Some(roles), Some(more)) = (&mut self.roles, other.roles) {
            roles.extend(more);
        }
    }
}
