//! A value in a table of statistics.

use std::fmt;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Whole(Option<i64>),
    Real(Option<f64>),
}

/// As it stands in a CSV file: as many digits as it takes to read the same number again.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Text(text) => f.write_str(text),
            Cell::Whole(Some(number)) => write!(f, "{number}"),
            Cell::Real(Some(number)) => write!(f, "{number}"),
            Cell::Whole(None) | Cell::Real(None) => Ok(()),
        }
    }
}
