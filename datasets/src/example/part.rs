//! How examples belong together: a row is one of them, or a pair.

use serde::Serialize;

/// What an example is of its row.
///
/// A preference row is two examples, one behind the other: `Chosen`, then `Rejected`. Nothing separates them: they are
/// visited, packed and laid into a batch together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// All of it (or a window of a long text).
    #[default]
    Alone,
    /// The better answer of a pair; the next example is the worse one.
    Chosen,
    /// The worse answer of a pair; the example before it is the better one.
    Rejected,
    /// All of it, an answer that is good.
    Good,
    /// All of it, an answer that is bad.
    Bad,
}

impl Part {
    /// The word for it in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Part::Alone => "alone",
            Part::Chosen => "chosen",
            Part::Rejected => "rejected",
            Part::Good => "good",
            Part::Bad => "bad",
        }
    }

    /// Whether nobody judged it.
    pub fn is_alone(&self) -> bool {
        *self == Part::Alone
    }
}
