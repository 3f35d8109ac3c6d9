//! What a condition or a computed column is: a [`Term`] says something about one row and nothing else. Aggregates,
//! windows, subqueries and files have no term, so none of them can be asked for.

/// A value that is computed from the columns of one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    /// A column, by its number in [`super::statement::Statement::columns`].
    Column(usize),
    /// A whole number, by its digits.
    Whole(String),
    /// A number with a fraction or an exponent.
    Fraction(f64),
    Text(String),
    Boolean(bool),
    Null,
    /// A day, as ISO 8601 writes it.
    Day(String),
    Compare(Comparison, Box<Term>, Box<Term>),
    /// All of them, or any of them; at least two.
    All(Vec<Term>),
    Any(Vec<Term>),
    Not(Box<Term>),
    IsNull(Box<Term>),
    /// Equal, where NULL equals NULL.
    Same(Box<Term>, Box<Term>),
    In(Box<Term>, Vec<Term>),
    /// A text that fits a pattern of `%` and `_`.
    Like {
        text: Box<Term>,
        pattern: String,
        any_case: bool,
    },
    /// A text in which a regular expression is found.
    Matches {
        text: Box<Term>,
        pattern: String,
    },
    Arithmetic(Arithmetic, Box<Term>, Box<Term>),
    Negative(Box<Term>),
    Case {
        cases: Vec<(Term, Term)>,
        otherwise: Box<Term>,
    },
    Cast {
        term: Box<Term>,
        to: CastTo,
        or_null: bool,
    },
    /// A part of a date: `YEAR`, `MONTH` and so on.
    PartOfDay(&'static str, Box<Term>),
    Call(&'static Function, Vec<Term>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// What a value can be made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CastTo {
    Boolean,
    /// A whole number of 64 bits.
    Whole,
    Fraction,
    Text,
    Day,
}

/// A function of one row's values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// The name that polars knows.
    pub name: &'static str,
    /// Other names of it.
    pub others: &'static [&'static str],
    pub arguments: &'static [Argument],
    /// How many of the arguments may be left out at the end.
    pub optional: usize,
    /// Whether the last argument may come any number of times.
    pub repeated: bool,
    pub result: Outcome,
}

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Argument {
    Text,
    Number,
    Boolean,
    List,
    /// What stands in the list before it.
    Item,
    /// Like the other arguments of this kind.
    Alike,
    /// Whatever can be written as text.
    Anything,
    /// A text or a whole number that stands in the query itself: from a row it could make a row of any size.
    Written(Literal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    Text,
    /// A regular expression.
    Pattern,
    /// A whole number that is not negative.
    Count,
}

/// What a function gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Text,
    Boolean,
    /// A count: polars gives it in 32 bits without a sign, in which a difference below 0 would be a large number.
    Count,
    /// A number of the arguments' kind.
    Number,
    /// What the arguments are that must be alike.
    Alike,
}

macro_rules! functions {
    ($($name:literal $others:tt ($($argument:expr),*) $optional:literal $repeated:literal $result:ident;)*) => {
        /// All functions.
        pub(super) static FUNCTIONS: &[Function] = &[$(Function {
            name: $name,
            others: &$others,
            arguments: &[$($argument),*],
            optional: $optional,
            repeated: $repeated,
            result: Outcome::$result,
        }),*];
    };
}

use Argument::{Alike, Anything, Boolean, Item, List, Number, Text, Written};
use Literal::{Count, Pattern, Text as Words};

functions! {
    "length" ["char_length", "character_length", "len"] (Text) 0 false Count;
    "octet_length" [] (Text) 0 false Count;
    "lower" ["lcase"] (Text) 0 false Text;
    "upper" ["ucase"] (Text) 0 false Text;
    "ltrim" [] (Text, Written(Words)) 1 false Text;
    "rtrim" [] (Text, Written(Words)) 1 false Text;
    "left" [] (Text, Written(Count)) 0 false Text;
    "substr" ["substring"] (Text, Written(Count), Written(Count)) 1 false Text;
    "replace" [] (Text, Written(Words), Written(Words)) 0 false Text;
    "split_part" [] (Text, Written(Words), Written(Count)) 0 false Text;
    "starts_with" [] (Text, Text) 0 false Boolean;
    "ends_with" [] (Text, Text) 0 false Boolean;
    "regexp_like" ["regexp_matches"] (Text, Written(Pattern)) 0 false Boolean;
    "concat" [] (Anything) 0 true Text;
    "concat_ws" [] (Written(Words), Anything) 0 true Text;
    "abs" [] (Number) 0 false Number;
    "floor" [] (Number) 0 false Number;
    "ceil" ["ceiling"] (Number) 0 false Number;
    "coalesce" ["ifnull", "nvl"] (Alike) 0 true Alike;
    "nullif" [] (Alike, Alike) 0 false Alike;
    "greatest" [] (Alike) 0 true Alike;
    "least" [] (Alike) 0 true Alike;
    "if" ["iff"] (Boolean, Alike, Alike) 0 false Alike;
    "array_length" ["cardinality", "list_length"] (List) 0 false Count;
    "array_contains" ["list_contains"] (List, Item) 0 false Boolean;
}

/// Functions that look at several rows, so that a row has no value of them.
pub(super) const OF_SEVERAL_ROWS: [&str; 40] = [
    "count",
    "sum",
    "avg",
    "mean",
    "min",
    "max",
    "first",
    "last",
    "median",
    "mode",
    "stddev",
    "stdev",
    "stddev_pop",
    "stddev_samp",
    "var",
    "variance",
    "var_pop",
    "var_samp",
    "corr",
    "covar_pop",
    "covar_samp",
    "quantile_cont",
    "quantile_disc",
    "string_agg",
    "listagg",
    "group_concat",
    "array_agg",
    "total",
    "any_value",
    "bool_and",
    "bool_or",
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
];

impl Function {
    /// The function of a name, in lower case.
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        FUNCTIONS.iter().find(|function| function.name == name || function.others.contains(&name))
    }

    /// The argument at a position.
    pub(super) fn argument(&self, position: usize) -> Option<Argument> {
        let last = self.arguments.last().filter(|_| self.repeated);
        self.arguments.get(position).or(last).copied()
    }
}

impl Comparison {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "<>",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl Term {
    /// The day that a text is.
    ///
    /// # Errors
    /// A text that is no day.
    pub(super) fn day(text: &str) -> Result<Self, String> {
        match chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            Ok(day) if text.len() == 10 => Ok(Self::Day(day.to_string())),
            _ => Err(format!("'{text}' is no day; a day is written 2026-01-31")),
        }
    }

    /// Adds the numbers of the columns that it is made of.
    pub(super) fn columns(&self, found: &mut std::collections::BTreeSet<usize>) {
        match self {
            Self::Column(column) => {
                found.insert(*column);
            }
            Self::Whole(_) | Self::Fraction(_) | Self::Text(_) | Self::Boolean(_) | Self::Null | Self::Day(_) => {}
            Self::Compare(_, left, right) | Self::Same(left, right) | Self::Arithmetic(_, left, right) => {
                left.columns(found);
                right.columns(found);
            }
            Self::Not(inner) | Self::IsNull(inner) | Self::Negative(inner) | Self::PartOfDay(_, inner) => {
                inner.columns(found);
            }
            Self::Like { text, .. } | Self::Matches { text, .. } => text.columns(found),
            Self::Cast { term, .. } => term.columns(found),
            Self::All(terms) | Self::Any(terms) | Self::Call(_, terms) => {
                terms.iter().for_each(|term| term.columns(found));
            }
            Self::In(inner, list) => {
                inner.columns(found);
                list.iter().for_each(|term| term.columns(found));
            }
            Self::Case { cases, otherwise } => {
                for (condition, result) in cases {
                    condition.columns(found);
                    result.columns(found);
                }
                otherwise.columns(found);
            }
        }
    }
}
