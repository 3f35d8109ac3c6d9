//! `[vocabulary]`: tokens that the base does not have.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gives the model tokens that its base does not have. They are appended to the tokenizer; embedding and output head get as
/// many rows, which are trained: in an adapter run both are trained whole (`adapter.modules_to_save`) and written with the
/// adapter and its tokenizer. An empty section enlarges the model to the number of tokens that its tokenizer has already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VocabularyRecipe {
    /// Control tokens: never split, and left out where text is shown.
    #[schemars(extend("examples" = [["<image>"]]))]
    pub add: Vec<String>,
    /// Words that become one token and stay text.
    #[schemars(extend("examples" = [["pembrolizumab"]]))]
    pub add_words: Vec<String>,
    /// Where the new rows start: at the mean of the old ones (`"mean"`), or, token by token, at the mean of the rows of a
    /// text's tokens.
    #[schemars(extend("examples" = [{ "<image>": "a picture" }]))]
    pub init: RowInit,
}

/// Where new rows start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RowInit {
    Preset(RowPreset),
    /// A token -> a text. Tokens that are not named start at the mean.
    Texts(BTreeMap<String, String>),
}

/// A start for all new rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RowPreset {
    /// The mean of the old rows.
    Mean,
}

impl Default for RowInit {
    fn default() -> Self {
        Self::Preset(RowPreset::Mean)
    }
}

impl RowInit {
    /// The text whose tokens a token's row starts at; absent: it starts at the mean of the old rows.
    pub fn text(&self, token: &str) -> Option<&str> {
        match self {
            Self::Preset(RowPreset::Mean) => None,
            Self::Texts(texts) => texts.get(token).map(String::as_str),
        }
    }
}

impl VocabularyRecipe {
    /// A token with a start that is not among the new ones.
    pub(super) fn stray(&self) -> Option<&str> {
        match &self.init {
            RowInit::Preset(RowPreset::Mean) => None,
            RowInit::Texts(texts) => texts
                .keys()
                .find(|token| !self.add.contains(token) && !self.add_words.contains(token))
                .map(String::as_str),
        }
    }
}
