//! One row as the trainer sees it, and what the gate must know about how it came to be.

mod notes;
mod part;

pub use notes::{Notes, OddOrder};
pub use part::Part;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::kind::RowKind;
use crate::location::Location;
use crate::tensor_file::TensorFile;
use crate::tokens::Tokens;

/// A row as a model sees it, before it is shuffled and packed.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Where the row stood.
    pub source: Location,
    /// What the model is given.
    pub content: ExampleContent,
    /// Whether the example stands alone or is judged, and how.
    pub part: Part,
    /// Which of the recipe's sources the row came from.
    pub source_index: usize,
    /// What the gate reports.
    pub notes: Notes,
}

/// What a model is given of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum ExampleContent {
    /// Tokens with labels and weights.
    Tokens(Tokens),
    /// The arrays of a file.
    Tensors(TensorFile),
}

impl Example {
    /// Its length in a window: its tokens, or 1 for a row of tensors, which has a window of its own.
    pub fn length(&self) -> usize {
        match &self.content {
            ExampleContent::Tokens(tokens) => tokens.input_ids.len(),
            ExampleContent::Tensors(_) => 1,
        }
    }

    /// How many tokens are learned to be predicted; a row of tensors counts as one.
    pub fn labelled_tokens(&self) -> usize {
        match &self.content {
            ExampleContent::Tokens(tokens) => tokens.labelled(),
            ExampleContent::Tensors(_) => 1,
        }
    }

    /// What kind of example it is.
    pub fn kind(&self) -> RowKind {
        match &self.content {
            ExampleContent::Tokens(_) => RowKind::Tokens,
            ExampleContent::Tensors(_) => RowKind::Tensors,
        }
    }

    /// Its tokens.
    ///
    /// # Errors
    /// A row of tensors, which has none.
    pub fn tokens(&self) -> Result<&Tokens, DataError> {
        match &self.content {
            ExampleContent::Tokens(tokens) => Ok(tokens),
            ExampleContent::Tensors(_) => {
                Err(DataError::row(&self.source, RowKind::Tokens.to_string(), "a row of tensors"))
            }
        }
    }

    /// The example as one JSON object: `source` and `part`, and of tokens `text`, `input_ids`, `labels`, `weights` and
    /// `roles`, of tensors the type and shape of each under `tensors`.
    ///
    /// # Errors
    /// A file of tensors that cannot be read, or changed.
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
        }
    }

    /// A hash of what the row teaches: its tokens, labels and weights, or the bytes of its file.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        match &self.content {
            ExampleContent::Tokens(Tokens { input_ids, labels, weights, .. }) => {
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
            }
            ExampleContent::Tensors(file) => {
                hash.update("tensors");
                hash.update(&file.sha256);
            }
        }
        match self.part {
            Part::Alone => {}
            Part::Chosen | Part::Good => hash.update([1]),
            Part::Rejected | Part::Bad => hash.update([0]),
        }
        hash.finalize().into()
    }
}

/// The rows that examples came from: single ones, and pairs.
pub fn rows(examples: &[Example]) -> impl Iterator<Item = &[Example]> {
    examples.chunk_by(|before, after| (before.part, after.part) == (Part::Chosen, Part::Rejected))
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoded {
    /// One example, or several where a long text was split.
    Examples(Vec<Example>),
    /// A better and a worse answer to one prompt, which stay together.
    Pair {
        /// The better one.
        chosen: Box<Example>,
        /// The worse one.
        rejected: Box<Example>,
    },
    /// Left out, being `tokens` long.
    Dropped {
        /// Its length.
        tokens: usize,
    },
}

impl Encoded {
    /// The two sides of a pair as one; it is left out where one of them is.
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

    /// The examples, in their order; none when the row was left out.
    pub fn into_examples(self) -> Vec<Example> {
        match self {
            Encoded::Examples(examples) => examples,
            Encoded::Pair { chosen, rejected } => vec![*chosen, *rejected],
            Encoded::Dropped { .. } => Vec::new(),
        }
    }
}
