//! What the examples of a split are made of.

use std::fmt;

/// The kinds of examples. A split holds one of them, because a batch is laid out in one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// Tokens with labels and weights.
    #[default]
    Tokens,
    /// Arrays in a file of their own.
    Tensors,
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RowKind::Tokens => "rows of tokens",
            RowKind::Tensors => "rows of tensors",
        })
    }
}
