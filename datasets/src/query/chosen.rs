//! What the queries of a recipe made of its sources: [`Chosen`], and [`ChosenRows`] with the source.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many rows a query kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Number of rows kept.
    pub kept: u64,
    /// Number of rows left out.
    pub left_out: u64,
}

/// How many rows of a source its query kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChosenRows {
    /// The source's path, as written in the recipe.
    pub path: String,
    /// How many rows.
    #[serde(flatten)]
    pub rows: Chosen,
}

/// `faq.jsonl: 120 rows kept, 30 left out`.
impl fmt::Display for ChosenRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, rows: Chosen { kept, left_out } } = self;
        write!(f, "{path}: {kept} rows kept, {left_out} left out")
    }
}
