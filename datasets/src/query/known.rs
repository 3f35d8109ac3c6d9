//! What is known of the columns that a query names, and how messages speak of terms: [`Known`].

use super::kind::{Found, Kind, Place};
use super::term::{Argument, CastTo, Outcome, Term};

/// The columns that a query names, and what they hold.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub columns: &'a [String],
    pub found: &'a [Found],
}

impl Known<'_> {
    /// The kind that a term has by itself; absent where its place decides.
    pub fn leaning(&self, term: &Term) -> Option<Kind> {
        match term {
            Term::Column(column) => {
                let Found { kind, cells, .. } = &self.found[*column];
                (cells.is_none() && *kind != Kind::Nothing).then(|| kind.clone())
            }
            Term::Null => None,
            Term::Whole(_) | Term::PartOfDay(..) => Some(Kind::Whole),
            Term::Fraction(_) | Term::Arithmetic(..) | Term::Negative(_) => Some(Kind::Fraction),
            Term::Text(_) => Some(Kind::Text),
            Term::Day(_) => Some(Kind::Day),
            Term::Boolean(_)
            | Term::Compare(..)
            | Term::All(_)
            | Term::Any(_)
            | Term::Not(_)
            | Term::IsNull(_)
            | Term::Same(..)
            | Term::In(..)
            | Term::Like { .. }
            | Term::Matches { .. } => Some(Kind::Boolean),
            Term::Case { cases, otherwise } => {
                cases.iter().map(|(_, result)| result).chain([&**otherwise]).find_map(|term| self.leaning(term))
            }
            Term::Cast { to, .. } => Some(match to {
                CastTo::Boolean => Kind::Boolean,
                CastTo::Whole => Kind::Whole,
                CastTo::Fraction => Kind::Fraction,
                CastTo::Text => Kind::Text,
                CastTo::Day => Kind::Day,
            }),
            Term::Call(function, arguments) => match function.result {
                Outcome::Text => Some(Kind::Text),
                Outcome::Boolean => Some(Kind::Boolean),
                Outcome::Count | Outcome::Number => Some(Kind::Whole),
                Outcome::Alike => {
                    let alike = |(position, _): &(usize, &Term)| function.argument(*position) == Some(Argument::Alike);
                    arguments.iter().enumerate().filter(alike).find_map(|(_, term)| self.leaning(term))
                }
            },
        }
    }

    /// Whether a term is a column of cells that are all numbers.
    pub fn are_numbers(&self, term: &Term) -> bool {
        let Term::Column(column) = term else { return false };
        self.found[*column].cells.as_ref().is_some_and(|cells| cells.number.is_ok())
    }

    pub fn no(&self, column: usize, place: &Place, what: &str) -> String {
        format!("`{}` has {} in {}, which is {what}", self.columns[column], place.shown, place.location)
    }

    /// A term as users wrote it, or nearly so.
    pub fn said(&self, term: &Term) -> String {
        match term {
            Term::Column(column) => format!("`{}`", self.columns[*column]),
            Term::Whole(digits) => digits.clone(),
            Term::Fraction(number) => number.to_string(),
            Term::Text(text) => quoted(text),
            Term::Boolean(value) => value.to_string().to_ascii_uppercase(),
            Term::Null => "NULL".into(),
            Term::Day(day) => format!("DATE '{day}'"),
            Term::Call(function, _) => format!("{}(..)", function.name.to_ascii_uppercase()),
            Term::Case { .. } => "CASE ..".into(),
            Term::Cast { .. } => "CAST(..)".into(),
            Term::PartOfDay(part, _) => format!("EXTRACT({part} ..)"),
            Term::Arithmetic(..) | Term::Negative(_) => "the computed number".into(),
            Term::Compare(..)
            | Term::All(_)
            | Term::Any(_)
            | Term::Not(_)
            | Term::IsNull(_)
            | Term::Same(..)
            | Term::In(..)
            | Term::Like { .. }
            | Term::Matches { .. } => "the condition".into(),
        }
    }

    pub fn is(&self, term: &Term, kind: &Kind) -> String {
        format!("{} is {}", self.said(term), kind.words())
    }

    /// A term with its kind, and the first value where it is a column.
    pub fn described(&self, term: &Term, kind: &Kind) -> String {
        let example = match term {
            Term::Column(column) => self.found[*column].example.as_ref(),
            _ => None,
        };
        match example {
            Some(Place { location, shown }) => format!("{} ({}, {shown} in {location})", self.said(term), kind.words()),
            None => format!("{} ({})", self.said(term), kind.words()),
        }
    }

    /// What makes a number of a column of text.
    pub fn cure(&self, term: &Term) -> String {
        match term {
            Term::Column(column) if self.found[*column].kind == Kind::Text => {
                let name = &self.columns[*column];
                format!("; CAST({name} AS DOUBLE) makes numbers of texts, TRY_CAST makes NULL of what is none")
            }
            _ => String::new(),
        }
    }
}

/// A text as a literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
