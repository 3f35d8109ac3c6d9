//! What a query made of a source's rows: [`Chosen`].

use serde::{Deserialize, Serialize};

/// How many rows a query kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Number of rows kept.
    pub kept: u64,
    /// Number of rows left out.
    pub left_out: u64,
}

impl std::fmt::Display for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows kept, {} left out", self.kept, self.left_out)
    }
}
