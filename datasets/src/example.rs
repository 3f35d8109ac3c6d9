//! Examples: [`Example`] is a row as a model sees it, with what the gate must know about how it was made.

mod notes;
mod part;

pub use notes::{Notes, OddOrder};
pub use part::Part;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::kind::RowKind;
use crate::label::RowLabel;
use crate::location::Location;
use crate::pictured::{Caption, Pictured};
use crate::tensor_file::TensorFile;
use crate::tokens::Tokens;

/// A row as a model sees it, before it is shuffled and packed.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Where the row stood.
    pub source: Location,
    /// What the model is given.
    pub content: ExampleContent,
    /// Whether the example stands alone or is an answer with a judgement, and which one.
    pub part: Part,
    /// The number of the recipe's source that the row came from, from 0.
    pub source_index: usize,
    /// What the gate reports about the row.
    pub notes: Notes,
}

/// What a model is given of an example.
#[derive(Debug, Clone, PartialEq)]
pub enum ExampleContent {
    /// Tokens with labels and weights.
    Tokens(Tokens),
    /// The arrays of a file.
    Tensors(TensorFile),
    /// A picture, which becomes arrays when a batch is laid out.
    Pictured(Pictured),
}

impl Example {
    /// Its length in a window: its number of tokens, or 1 for a row of tensors, which has a window of its own.
    pub fn length(&self) -> usize {
        match &self.content {
            ExampleContent::Tokens(tokens) => tokens.input_ids.len(),
            ExampleContent::Tensors(_) | ExampleContent::Pictured(_) => 1,
        }
    }

    /// Number of tokens that are learned to be predicted; a row of tensors counts as one.
    pub fn labelled_tokens(&self) -> usize {
        match &self.content {
            ExampleContent::Tokens(tokens) => tokens.labelled(),
            ExampleContent::Tensors(_) => 1,
            // A row of weight 0 is left out.
            ExampleContent::Pictured(pictured) => {
                usize::from(pictured.label.as_ref().is_none_or(|row| row.weight > 0.0))
            }
        }
    }

    /// Which kind of example it is.
    pub fn kind(&self) -> RowKind {
        match &self.content {
            ExampleContent::Tokens(_) => RowKind::Tokens,
            ExampleContent::Tensors(_) | ExampleContent::Pictured(_) => RowKind::Tensors,
        }
    }

    /// The label of its row, where the row has one.
    pub fn label(&self) -> Option<&RowLabel> {
        match &self.content {
            ExampleContent::Tokens(tokens) => tokens.label.as_ref(),
            ExampleContent::Pictured(pictured) => pictured.label.as_ref(),
            ExampleContent::Tensors(_) => None,
        }
    }

    /// Its tokens.
    ///
    /// # Errors
    /// The example is a row of tensors, which has no tokens.
    pub fn tokens(&self) -> Result<&Tokens, DataError> {
        match &self.content {
            ExampleContent::Tokens(tokens) => Ok(tokens),
            ExampleContent::Tensors(_) | ExampleContent::Pictured(_) => {
                Err(DataError::row(&self.source, RowKind::Tokens.to_string(), "a row of tensors"))
            }
        }
    }

    /// The example as one JSON object: `source` and `part`; for tokens also `text`, `input_ids`, `labels`, `weights`
    /// and `roles`; for tensors also `tensors`, with the type and shape of each array.
    ///
    /// # Errors
    /// A file of tensors cannot be read, or has changed.
    pub fn json(&self) -> Result<String, DataError> {
        #[derive(Serialize)]
        struct Shown<'a> {
            source: &'a Location,
            #[serde(flatten)]
            tokens: &'a Tokens,
            #[serde(skip_serializing_if = "Part::is_alone")]
            part: Part,
        }
        let Self { source, part, .. } = self;
        match &self.content {
            ExampleContent::Tokens(tokens) => {
                Ok(serde_json::to_string(&Shown { source, tokens, part: *part }).unwrap_or_default())
            }
            ExampleContent::Tensors(file) => {
                let arrays = file.read(source)?;
                let shown = |(name, array): (&String, &crate::Array)| {
                    (name.clone(), json!({ "dtype": array.values.dtype(), "shape": array.shape }))
                };
                let tensors: Map<String, Value> = arrays.iter().map(shown).collect();
                Ok(json!({ "source": source, "tensors": tensors }).to_string())
            }
            ExampleContent::Pictured(Pictured { image, size, caption, label, .. }) => {
                let mut shown = json!({ "source": source, "image": image.name(), "height": size.0, "width": size.1 });
                if let Some(Caption { text, ids }) = caption {
                    shown["text"] = json!(text);
                    shown["input_ids"] = json!(ids.first());
                }
                if let Some(label) = label {
                    shown["label"] = json!(label);
                }
                Ok(shown.to_string())
            }
        }
    }

    /// A hash of what the example trains: its tokens, labels and weights, or the bytes of its file. Rows that differ only
    /// in an image are different rows.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match &self.content {
            ExampleContent::Tokens(Tokens { input_ids, labels, weights, label, .. }) => {
                hash.update((input_ids.len() as u64).to_le_bytes());
                for id in input_ids {
                    hash.update(id.to_le_bytes());
                }
                for label in labels {
                    hash.update(label.to_le_bytes());
                }
                for weight in weights {
                    hash.update(weight.to_le_bytes());
                }
                if let Some(row) = label {
                    hash.update(format!("{row:?}"));
                }
            }
            ExampleContent::Tensors(file) => {
                hash.update("tensors");
                hash.update(&file.sha256);
            }
            ExampleContent::Pictured(Pictured { pixels, caption, label, .. }) => {
                hash.update("picture");
                hash.update(pixels);
                for ids in caption.iter().flat_map(|caption| &caption.ids) {
                    hash.update((ids.len() as u64).to_le_bytes());
                    ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
                }
                hash.update(format!("{label:?}"));
            }
        }
        if let Some(media) = self.notes.media {
            hash.update(media.to_le_bytes());
        }
        match self.part {
            Part::Alone => {}
            Part::Chosen | Part::Good => hash.update([1]),
            Part::Rejected | Part::Bad => hash.update([0]),
        }
        hash.finalize().into()
    }
}

/// Groups examples by the row they came from: one example, or the two of a pair.
pub fn rows(examples: &[Example]) -> impl Iterator<Item = &[Example]> {
    examples.chunk_by(|before, after| (before.part, after.part) == (Part::Chosen, Part::Rejected))
}

/// The result of encoding a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoded {
    /// One example, or several where a long text was split into windows.
    Examples(Vec<Example>),
    /// A better and a worse answer to one prompt; they stay together.
    Pair {
        /// The better one.
        chosen: Box<Example>,
        /// The worse one.
        rejected: Box<Example>,
    },
    /// The row was left out because of its length.
    Dropped {
        /// Its length in tokens.
        tokens: usize,
    },
}

impl Encoded {
    /// Joins the two answers of a pair; the pair is left out where one of them is.
    pub(crate) fn paired(self, rejected: Self) -> Self {
        match (self, rejected) {
            (Encoded::Examples(mut chosen), Encoded::Examples(mut rejected)) => match (chosen.pop(), rejected.pop()) {
                (Some(chosen), Some(rejected)) => {
                    Encoded::Pair { chosen: Box::new(chosen), rejected: Box::new(rejected) }
                }
                _ => Encoded::Examples(Vec::new()),
            },
            (dropped @ Encoded::Dropped { .. }, _) | (_, dropped @ Encoded::Dropped { .. }) => dropped,
            (pair @ Encoded::Pair { .. }, _) | (_, pair @ Encoded::Pair { .. }) => pair,
        }
    }

    /// Whether a text of the user or the assistant is empty in it.
    pub(crate) fn has_empty_text(&self) -> bool {
        let is_empty = |example: &Example| example.notes.empty.0 > 0;
        match self {
            Encoded::Examples(examples) => examples.iter().any(is_empty),
            Encoded::Pair { chosen, rejected } => is_empty(chosen) || is_empty(rejected),
            Encoded::Dropped { .. } => false,
        }
    }

    /// Notes in each example the hash of the media in its row.
    pub(crate) fn with_media(mut self, media: Option<u64>) -> Self {
        match &mut self {
            Encoded::Examples(examples) => examples.iter_mut().for_each(|example| example.notes.media = media),
            Encoded::Pair { chosen, rejected } => {
                chosen.notes.media = media;
                rejected.notes.media = media;
            }
            Encoded::Dropped { .. } => {}
        }
        self
    }

    /// The examples, in their order; none when the row was left out.
    pub fn into_examples(self) -> Vec<Example> {
        match self {
            Encoded::Examples(examples) => examples,
            Encoded::Pair { chosen, rejected } => vec![*chosen, *rejected],
            Encoded::Dropped { .. } => Vec::new(),
        }
    }
}
