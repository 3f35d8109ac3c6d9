//! A query as it was understood: [`Statement`].

use super::term::Term;

/// Which rows are kept, and what is made of each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    /// The file's columns that it names; a dot leads into an object.
    pub columns: Vec<String>,
    /// What must be true of a row; absent: every row is kept.
    pub condition: Option<Term>,
    pub output: Output,
    /// How many of the rows that fulfil the condition are skipped, and how many are kept at most.
    pub skip: u64,
    pub most: Option<u64>,
}

/// What becomes of a row that is kept.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Output {
    /// It stays as it is.
    Same,
    Columns(Vec<Item>),
}

/// A part of a `SELECT` list.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    /// All columns of the row, `*`.
    All,
    /// A column under the same or another name, with its value as it is.
    Column {
        column: usize,
        name: String,
    },
    Computed {
        term: Term,
        name: String,
    },
}
