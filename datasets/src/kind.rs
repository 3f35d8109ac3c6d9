//! The kinds of examples: [`RowKind`] tells tokens from arrays.

use std::fmt;

/// What examples are made of. A split holds one kind only, because a batch is laid out in one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// Tokens with labels and weights.
    #[default]
    Tokens,
    /// Arrays in a file that the row names.
    Tensors,
}

impl RowKind {
    /// The word for it: `tokens`, `tensors`.
    pub fn word(self) -> &'static str {
        match self {
            RowKind::Tokens => "tokens",
            RowKind::Tensors => "tensors",
        }
    }
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows of {}", self.word())
    }
}
