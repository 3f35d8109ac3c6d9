//! What rows hold: [`Format`].

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::RowKind;

/// What a row holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Decide from the first rows, and refuse when two formats fit.
    #[default]
    Auto,
    /// `{"messages": [{"role": .., "content": ..}, ..]}`, optionally `tools`, and `train` or `weight` in a message.
    Messages,
    /// `{"conversations": [{"from": "human", "value": ..}, ..]}`, optionally `system` and `tools`.
    #[serde(rename = "sharegpt")]
    ShareGpt,
    /// `{"instruction": .., "input": .., "output": ..}`, optionally `history` (pairs of texts) and `system`.
    Alpaca,
    /// `{"prompt": .., "completion": ..}`: two strings, or two lists of messages.
    PromptCompletion,
    /// `{"prompt": .., "chosen": .., "rejected": ..}`: a better and a worse answer, as strings or messages; without `prompt`
    /// two dialogues that begin alike. Or `{"prompt_ids": [..], "chosen_ids": [..], "rejected_ids": [..]}` as they are.
    Preference,
    /// `{"prompt": .., "completion": .., "label": true}`: an answer that is good or bad. Or `{"prompt_ids": [..],
    /// "completion_ids": [..], "label": true}` as they are.
    Unpaired,
    /// `{"text": .., "label": ..}`: what is read, and what is to be said of it: the name or number of a class, a list of
    /// them, or a value. In place of `text`: `messages`, `prompt` and `completion`, `input_ids`, taken as they are, or `image`. What
    /// `auto` means where classes are learned (objective `classify`).
    Labelled,
    /// `{"image": "cat.png", "text": ..}`: a picture with a text that belongs to it, for models that read pictures. The
    /// path starts at the folder of the row's own file; `file_name` in place of `image` is read too, and `{"bytes", "path"}`
    /// as Parquet files of image datasets hold pictures. What `auto` means where a model reads pictures.
    Captioned,
    /// `{"text": ".."}`: plain text, all of it trained.
    Text,
    /// `{"input_ids": [..], "labels": [..]}` as they are, -100 = not trained. No tokenizer is needed.
    Tokens,
    /// `{"tensors": "row.safetensors"}`: the inputs of the model as they are, in a file of their own. No tokenizer is
    /// needed, and `max_length` and `packing` do not apply.
    Tensors,
}

impl Format {
    /// The word that stands in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Messages => "messages",
            Format::ShareGpt => "sharegpt",
            Format::Alpaca => "alpaca",
            Format::PromptCompletion => "prompt-completion",
            Format::Preference => "preference",
            Format::Unpaired => "unpaired",
            Format::Labelled => "labelled",
            Format::Captioned => "captioned",
            Format::Text => "text",
            Format::Tokens => "tokens",
            Format::Tensors => "tensors",
        }
    }
}

impl Format {
    /// The kind of examples that its rows become, where `pictures` says whether the model reads pictures; absent for `auto`.
    pub(crate) fn kind(self, pictures: bool) -> Option<RowKind> {
        match self {
            Format::Auto => None,
            Format::Labelled if pictures => Some(RowKind::Tensors),
            Format::Captioned => Some(RowKind::Tensors),
            Format::Messages
            | Format::ShareGpt
            | Format::Alpaca
            | Format::PromptCompletion
            | Format::Preference
            | Format::Unpaired
            | Format::Labelled
            | Format::Text
            | Format::Tokens => Some(RowKind::Tokens),
            Format::Tensors => Some(RowKind::Tensors),
        }
    }

    /// Whether its rows may be joined in a pack. Dialogues and pairs may not: an answer would be learned after dialogues
    /// that do not precede it in use. Of `auto` it is decided when the rows were looked at.
    pub fn may_be_joined(self) -> bool {
        match self {
            Format::Auto | Format::Text | Format::Tokens => true,
            Format::Messages
            | Format::ShareGpt
            | Format::Alpaca
            | Format::PromptCompletion
            | Format::Preference
            | Format::Unpaired
            | Format::Labelled
            | Format::Captioned
            | Format::Tensors => false,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
