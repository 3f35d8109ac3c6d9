//! What the documents of a pack are to each other: [`DocumentAttention`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the documents of a pack are to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentAttention {
    /// They never see each other: attention ends at a document's first token, positions restart, nothing is predicted
    /// across.
    #[default]
    Separate,
    /// They are one text, as in continued pre-training on concatenated documents: a token sees all of the pack before it,
    /// positions run on, and a document's first token is predicted from the end of the one before. For `text` and `tokens`.
    Joined,
}

impl DocumentAttention {
    /// Whether the documents of a pack are one.
    pub fn is_joined(self) -> bool {
        match self {
            DocumentAttention::Separate => false,
            DocumentAttention::Joined => true,
        }
    }
}
