//! The part that an example is of its row: [`Part`] tells single examples from the two of a pair.

use serde::Serialize;

/// Which part of its row an example is.
///
/// A preference row is two examples, `Chosen` directly followed by `Rejected`. They are always visited, packed and laid
/// into a batch together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The whole row, without a judgement (or a window of a long text).
    #[default]
    Alone,
    /// The better answer of a pair; the next example is the worse one.
    Chosen,
    /// The worse answer of a pair; the example before it is the better one.
    Rejected,
    /// The whole row: an answer that is judged good.
    Good,
    /// The whole row: an answer that is judged bad.
    Bad,
}

impl Part {
    /// The word for it in tables and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Part::Alone => "alone",
            Part::Chosen => "chosen",
            Part::Rejected => "rejected",
            Part::Good => "good",
            Part::Bad => "bad",
        }
    }

    /// Whether it has no judgement.
    pub fn is_alone(&self) -> bool {
        *self == Part::Alone
    }
}
