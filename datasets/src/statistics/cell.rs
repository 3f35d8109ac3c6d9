//! The values in a table of statistics: [`Cell`].

use std::fmt;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Whole(Option<i64>),
    Real(Option<f64>),
}

/// As in a CSV file: a float has as many digits as are needed to read the same number again.
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
