//! Terms as SQL for polars: [`Writer`] checks that every value is of a kind that its place takes, and writes the term
//! over the columns of a [`Layout`]. polars then has no kinds to guess.
//!
//! What it writes otherwise than it was asked: whole numbers have 128 bits, so that nothing wraps; a sum, a difference or
//! a product that needs more than 64 is an error; what is divided by 0 is NULL.

use super::frame::{As, Layout};
use super::kind::Kind;
use super::known::{Known, quoted};
use super::term::{Argument, Arithmetic, CastTo, Comparison, Function, Literal, Outcome, Term};

/// SQL that polars evaluates, and the kind of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub sql: String,
    pub kind: Kind,
}

/// What a place takes; it decides how cells of CSV are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Anything,
    Number,
    Truth,
}

/// Writes the terms of one query.
pub(super) struct Writer<'a> {
    /// The columns that the query names, and what they hold.
    pub known: Known<'a>,
    pub layout: Layout,
}

/// Number of items of `IN (..)` up to which each is compared.
const LONG_LIST: usize = 16;

impl Writer<'_> {
    /// A condition: what is true, false or NULL of a row.
    ///
    /// # Errors
    /// What is of a kind that its place does not take.
    pub fn condition(&mut self, term: &Term) -> Result<String, String> {
        self.truth(term)
    }

    /// A computed column. A day is written as text.
    ///
    /// # Errors
    /// As [`Self::condition`].
    pub fn computed(&mut self, term: &Term) -> Result<String, String> {
        let written = self.plain(term, Wanted::Anything)?;
        Ok(match written.kind {
            Kind::Day => format!("CAST({} AS VARCHAR)", written.sql),
            _ => written.sql,
        })
    }

    fn truth(&mut self, term: &Term) -> Result<String, String> {
        let written = self.plain(term, Wanted::Truth)?;
        match written.kind {
            Kind::Boolean => Ok(written.sql),
            Kind::Nothing => Ok("CAST(NULL AS BOOLEAN)".into()),
            _ => {
                Err(format!("{} is no condition; compare it with something", self.known.described(term, &written.kind)))
            }
        }
    }

    fn number(&mut self, term: &Term) -> Result<Written, String> {
        let written = self.plain(term, Wanted::Number)?;
        match written.kind {
            Kind::Whole | Kind::Fraction => Ok(written),
            Kind::Nothing => Ok(Written { sql: format!("CAST({} AS DOUBLE)", written.sql), kind: Kind::Fraction }),
            _ => Err(format!("{} is no number{}", self.known.described(term, &written.kind), self.known.cure(term))),
        }
    }

    fn text(&mut self, term: &Term) -> Result<String, String> {
        let written = self.plain(term, Wanted::Anything)?;
        match written.kind {
            Kind::Text => Ok(written.sql),
            Kind::Nothing => Ok(format!("CAST({} AS VARCHAR)", written.sql)),
            _ => Err(format!(
                "{} is no text; CAST({} AS VARCHAR) makes one of it",
                self.known.described(term, &written.kind),
                self.known.said(term)
            )),
        }
    }

    /// A term that is no list and no object.
    fn plain(&mut self, term: &Term, wanted: Wanted) -> Result<Written, String> {
        let written = self.write(term, wanted)?;
        match written.kind {
            Kind::List(_) | Kind::Lists => Err(format!(
                "{} is a list; of lists there are ARRAY_LENGTH(..), ARRAY_CONTAINS(..) and IS NULL",
                self.known.said(term)
            )),
            Kind::Object => Err(format!(
                "{} is an object; name what is in it ({}.name), or write IS NULL",
                self.known.said(term),
                self.known.said(term)
            )),
            Kind::Nothing | Kind::Boolean | Kind::Whole | Kind::Fraction | Kind::Text | Kind::Day => Ok(written),
        }
    }

    fn write(&mut self, term: &Term, wanted: Wanted) -> Result<Written, String> {
        let of = |kind: Kind, sql: String| Ok(Written { sql, kind });
        match term {
            Term::Column(column) => self.column(*column, wanted),
            Term::Whole(digits) => of(Kind::Whole, format!("CAST('{digits}' AS HUGEINT)")),
            Term::Fraction(number) => of(Kind::Fraction, decimal(*number)),
            Term::Text(text) => of(Kind::Text, quoted(text)),
            Term::Boolean(true) => of(Kind::Boolean, "TRUE".into()),
            Term::Boolean(false) => of(Kind::Boolean, "FALSE".into()),
            Term::Null => of(Kind::Nothing, "NULL".into()),
            Term::Day(day) => of(Kind::Day, format!("DATE '{day}'")),
            Term::Compare(comparison, left, right) => {
                let sql = self.compare(*comparison, left, right)?;
                of(Kind::Boolean, sql)
            }
            Term::All(terms) => of(Kind::Boolean, joined(&self.truths(terms)?, "AND")),
            Term::Any(terms) => of(Kind::Boolean, joined(&self.truths(terms)?, "OR")),
            Term::Not(inner) => of(Kind::Boolean, format!("(NOT {})", self.truth(inner)?)),
            Term::IsNull(inner) => of(Kind::Boolean, format!("({} IS NULL)", self.write(inner, Wanted::Anything)?.sql)),
            Term::Same(left, right) => {
                let (sides, _) = self.alike(&[left, right], Wanted::Anything, true)?;
                of(Kind::Boolean, format!("({} IS NOT DISTINCT FROM {})", sides[0], sides[1]))
            }
            Term::In(inner, list) => {
                let terms: Vec<&Term> = std::iter::once(&**inner).chain(list).collect();
                if list.len() > LONG_LIST
                    && let Some(sql) = self.long_list(inner, list)?
                {
                    return of(Kind::Boolean, sql);
                }
                let (written, _) = self.alike(&terms, Wanted::Anything, true)?;
                let equal: Vec<String> = written[1..].iter().map(|item| format!("({} = {item})", written[0])).collect();
                of(Kind::Boolean, joined(&equal, "OR"))
            }
            Term::Like { text, pattern, any_case } => {
                let like = if *any_case { "ILIKE" } else { "LIKE" };
                let text = self.text(text)?;
                of(Kind::Boolean, format!("({text} {like} {})", quoted(pattern)))
            }
            Term::Matches { text, pattern } => {
                let text = self.text(text)?;
                of(Kind::Boolean, format!("REGEXP_LIKE({text}, {})", quoted(pattern)))
            }
            Term::Arithmetic(arithmetic, left, right) => self.arithmetic(*arithmetic, left, right),
            Term::Negative(inner) => {
                let inner = self.number(inner)?;
                let zero = if inner.kind == Kind::Whole { "CAST('0' AS HUGEINT)" } else { "0.0" };
                of(inner.kind, format!("({zero} - {})", inner.sql))
            }
            Term::Case { cases, otherwise } => {
                let conditions =
                    cases.iter().map(|(condition, _)| self.truth(condition)).collect::<Result<Vec<_>, _>>()?;
                let terms: Vec<&Term> = cases.iter().map(|(_, result)| result).chain([&**otherwise]).collect();
                let (results, kind) = self.alike(&terms, wanted, false)?;
                let mut sql = String::from("(CASE");
                for (condition, result) in conditions.iter().zip(&results) {
                    sql += &format!(" WHEN {condition} THEN {result}");
                }
                sql += &format!(" ELSE {} END)", results[cases.len()]);
                of(kind, sql)
            }
            Term::Cast { term, to, or_null } => self.cast(term, *to, *or_null),
            Term::PartOfDay(part, inner) => {
                let day = self.plain(inner, Wanted::Anything)?;
                match day.kind {
                    Kind::Day => of(Kind::Whole, format!("CAST(EXTRACT({part} FROM {}) AS HUGEINT)", day.sql)),
                    _ => Err(format!(
                        "{} is no day; CAST({} AS DATE) makes one of it",
                        self.known.described(inner, &day.kind),
                        self.known.said(inner)
                    )),
                }
            }
            Term::Call(function, arguments) => self.call(function, arguments, wanted),
        }
    }

    /// `IN (..)` of many literals of one kind, which the engine looks up in a table; absent where they are others.
    fn long_list(&mut self, inner: &Term, list: &[Term]) -> Result<Option<String>, String> {
        let (sides, kind) = self.alike(&[inner, &list[0]], Wanted::Anything, true)?;
        let item = |item: &Term| match (&kind, item) {
            (Kind::Text, Term::Text(text)) => Some(quoted(text)),
            (Kind::Whole, Term::Whole(digits)) => Some(format!("CAST('{digits}' AS HUGEINT)")),
            _ => None,
        };
        let items: Option<Vec<String>> = list.iter().map(item).collect();
        Ok(items.map(|items| format!("({} IN ({}))", sides[0], items.join(", "))))
    }

    fn truths(&mut self, terms: &[Term]) -> Result<Vec<String>, String> {
        terms.iter().map(|term| self.truth(term)).collect()
    }

    fn column(&mut self, column: usize, wanted: Wanted) -> Result<Written, String> {
        let found = &self.known.found[column];
        let (shown, kind) = match (&found.cells, wanted) {
            (Some(cells), Wanted::Number) => match &cells.number {
                Ok(kind) => (As::Numbers(kind.clone()), kind.clone()),
                Err(place) => return Err(self.known.no(column, place, "no number that can be compared")),
            },
            (Some(cells), Wanted::Truth) => match &cells.boolean {
                Ok(()) => (As::Truths, Kind::Boolean),
                Err(place) => return Err(self.known.no(column, place, "neither true nor false")),
            },
            (None, _) | (Some(_), Wanted::Anything) => (As::Values(found.kind.clone()), found.kind.clone()),
        };
        Ok(Written { sql: self.layout.name(column, shown), kind })
    }

    fn compare(&mut self, comparison: Comparison, left: &Term, right: &Term) -> Result<String, String> {
        let ordered = !matches!(comparison, Comparison::Equal | Comparison::Unequal);
        for (cells, text) in [(left, right), (right, left)] {
            if let (true, Term::Column(column), Term::Text(text)) = (ordered, cells, text)
                && let Some(Ok(_)) = self.known.found[*column].cells.as_ref().map(|cells| &cells.number)
                && super::kind::of_cell(text).is_some()
            {
                return Err(format!(
                    "`{}` holds numbers, and '{text}' is text, in whose order '10' is before '4'; write {text} without \
                     quotes",
                    self.known.columns[*column]
                ));
            }
        }
        let (sides, kind) = self.alike(&[left, right], Wanted::Anything, true)?;
        if ordered && kind == Kind::Boolean {
            return Err(format!("true and false have no order; {} is one of them", self.known.said(left)));
        }
        Ok(format!("({} {} {})", sides[0], comparison.sign(), sides[1]))
    }

    /// Terms that must be of one kind. With `compared`, two columns of cells that are both numbers are compared as
    /// numbers; otherwise cells stay the text they are.
    fn alike(&mut self, terms: &[&Term], wanted: Wanted, compared: bool) -> Result<(Vec<String>, Kind), String> {
        let leanings: Vec<Option<Kind>> = terms.iter().map(|term| self.known.leaning(term)).collect();
        let leans = |is: fn(&Kind) -> bool| leanings.iter().flatten().any(is);
        let all_numbers = compared && terms.iter().all(|term| self.known.are_numbers(term));
        let wanted = match wanted {
            _ if leans(Kind::is_number) || all_numbers => Wanted::Number,
            _ if leans(|kind| *kind == Kind::Boolean) => Wanted::Truth,
            _ if leans(|_| true) => Wanted::Anything,
            wanted => wanted,
        };
        let days = leans(|kind| *kind == Kind::Day);
        let (mut written, mut kind, mut first) = (Vec::new(), Kind::Nothing, None);
        for term in terms {
            let one = match term {
                Term::Text(text) if days => self.write(&Term::day(text)?, wanted)?,
                term => self.plain(term, wanted)?,
            };
            kind = match (kind, &one.kind) {
                (kind, Kind::Nothing) => kind,
                (Kind::Nothing, other) => {
                    first = Some(*term);
                    other.clone()
                }
                (Kind::Whole | Kind::Fraction, Kind::Fraction) | (Kind::Fraction, Kind::Whole) => Kind::Fraction,
                (kind, other) if kind == *other => kind,
                (kind, other) => {
                    let first = first.unwrap_or(term);
                    let text = if kind == Kind::Text { first } else { term };
                    return Err(format!(
                        "{} and {} are not of one kind{}",
                        self.known.described(first, &kind),
                        self.known.described(term, other),
                        self.known.cure(text)
                    ));
                }
            };
            written.push(one);
        }
        let cast = |one: Written| match (&one.kind, &kind) {
            (Kind::Whole, Kind::Fraction) => format!("CAST({} AS DOUBLE)", one.sql),
            (Kind::Nothing, Kind::Whole) => format!("CAST({} AS HUGEINT)", one.sql),
            (Kind::Nothing, Kind::Fraction) => format!("CAST({} AS DOUBLE)", one.sql),
            (Kind::Nothing, Kind::Text) => format!("CAST({} AS VARCHAR)", one.sql),
            (Kind::Nothing, Kind::Boolean) => format!("CAST({} AS BOOLEAN)", one.sql),
            (Kind::Nothing, Kind::Day) => format!("CAST({} AS DATE)", one.sql),
            _ => one.sql,
        };
        Ok((written.into_iter().map(cast).collect(), kind))
    }

    fn arithmetic(&mut self, arithmetic: Arithmetic, left: &Term, right: &Term) -> Result<Written, String> {
        let Written { sql, kind } = self.unchecked(arithmetic, left, right)?;
        let sql = if kind == Kind::Whole { format!("CAST(CAST({sql} AS BIGINT) AS HUGEINT)") } else { sql };
        Ok(Written { sql, kind })
    }

    /// An operand of a sum: of a longer sum only the whole is checked for its size, since 128 bits hold its parts.
    fn operand(&mut self, arithmetic: Arithmetic, term: &Term) -> Result<Written, String> {
        let is_sum = |arithmetic: Arithmetic| matches!(arithmetic, Arithmetic::Add | Arithmetic::Subtract);
        match term {
            Term::Arithmetic(inner, left, right) if is_sum(arithmetic) && is_sum(*inner) => {
                self.unchecked(*inner, left, right)
            }
            term => self.number(term),
        }
    }

    fn unchecked(&mut self, arithmetic: Arithmetic, left: &Term, right: &Term) -> Result<Written, String> {
        let (left, right) = (self.operand(arithmetic, left)?, self.operand(arithmetic, right)?);
        let kind = match (arithmetic, &left.kind, &right.kind) {
            (Arithmetic::Divide, ..) => Kind::Fraction,
            (_, Kind::Whole, Kind::Whole) => Kind::Whole,
            _ => Kind::Fraction,
        };
        let as_kind = |one: Written| match (&one.kind, &kind) {
            (Kind::Whole, Kind::Fraction) => format!("CAST({} AS DOUBLE)", one.sql),
            _ => one.sql,
        };
        let (left, right) = (as_kind(left), as_kind(right));
        let zero = if kind == Kind::Whole { "CAST('0' AS HUGEINT)" } else { "0.0" };
        let sql = match arithmetic {
            Arithmetic::Add => format!("({left} + {right})"),
            Arithmetic::Subtract => format!("({left} - {right})"),
            Arithmetic::Multiply => format!("({left} * {right})"),
            Arithmetic::Divide => format!("({left} / NULLIF({right}, {zero}))"),
            Arithmetic::Remainder => format!("({left} % NULLIF({right}, {zero}))"),
        };
        Ok(Written { sql, kind })
    }

    fn cast(&mut self, term: &Term, to: CastTo, or_null: bool) -> Result<Written, String> {
        let from = self.plain(term, Wanted::Anything)?;
        let cast = if or_null { "TRY_CAST" } else { "CAST" };
        let plainly = |name: &str| format!("{cast}({} AS {name})", from.sql);
        let (kind, sql) = match (to, &from.kind) {
            (CastTo::Whole, Kind::Day) | (CastTo::Fraction | CastTo::Boolean, Kind::Day) => {
                return Err(format!(
                    "{} is a day and becomes no number; take a part of it, EXTRACT(YEAR FROM ..)",
                    self.known.said(term)
                ));
            }
            (CastTo::Day, Kind::Whole | Kind::Fraction | Kind::Boolean) => {
                return Err(format!(
                    "{} becomes no day; days are read from text, 2026-01-31",
                    self.known.described(term, &from.kind)
                ));
            }
            (CastTo::Whole, _) => (Kind::Whole, format!("CAST({} AS HUGEINT)", plainly("BIGINT"))),
            (CastTo::Fraction, _) => (Kind::Fraction, plainly("DOUBLE")),
            (CastTo::Boolean, _) => (Kind::Boolean, plainly("BOOLEAN")),
            (CastTo::Text, Kind::Text) => (Kind::Text, from.sql),
            (CastTo::Text, _) => (Kind::Text, plainly("VARCHAR")),
            (CastTo::Day, Kind::Day) => (Kind::Day, from.sql),
            (CastTo::Day, _) => (Kind::Day, plainly("DATE")),
        };
        Ok(Written { sql, kind })
    }

    fn call(&mut self, function: &'static Function, arguments: &[Term], wanted: Wanted) -> Result<Written, String> {
        let name = function.name.to_ascii_uppercase();
        let kind_of = |position: usize| function.argument(position);
        let alike: Vec<&Term> = arguments
            .iter()
            .enumerate()
            .filter(|(position, _)| kind_of(*position) == Some(Argument::Alike))
            .map(|(_, term)| term)
            .collect();
        let (mut alike, mut kind) = self.alike(&alike, wanted, false).map(|(sql, kind)| (sql.into_iter(), kind))?;
        let mut list = None;
        let mut written = Vec::new();
        for (position, term) in arguments.iter().enumerate() {
            written.push(match kind_of(position) {
                Some(Argument::Text) => self.text(term)?,
                Some(Argument::Number) => {
                    let number = self.number(term)?;
                    kind = number.kind;
                    number.sql
                }
                Some(Argument::Boolean) => self.truth(term)?,
                Some(Argument::Alike) => alike.next().unwrap_or_default(),
                Some(Argument::List) => {
                    let value = self.write(term, Wanted::Anything)?;
                    match &value.kind {
                        Kind::List(item) => list = Some((**item).clone()),
                        Kind::Lists => {}
                        Kind::Nothing => list = Some(Kind::Nothing),
                        other => {
                            return Err(format!("{name} is about lists, and {}", self.known.is(term, other)));
                        }
                    }
                    value.sql
                }
                Some(Argument::Item) => {
                    let item = self.plain(term, Wanted::Anything)?;
                    match &list {
                        Some(Kind::Fraction) if item.kind == Kind::Whole => format!("CAST({} AS DOUBLE)", item.sql),
                        Some(kind) if *kind == item.kind || *kind == Kind::Nothing => item.sql,
                        Some(kind) => {
                            return Err(format!(
                                "the items of {} are {}, and {}",
                                self.known.said(&arguments[0]),
                                kind.words(),
                                self.known.is(term, &item.kind)
                            ));
                        }
                        None => {
                            return Err(format!(
                                "the items of {} are no plain values of one kind",
                                self.known.said(&arguments[0])
                            ));
                        }
                    }
                }
                Some(Argument::Anything) => {
                    let value = self.plain(term, Wanted::Anything)?;
                    match value.kind {
                        Kind::Text => value.sql,
                        _ => format!("CAST({} AS VARCHAR)", value.sql),
                    }
                }
                Some(Argument::Written(Literal::Count)) => match term {
                    Term::Whole(digits) => digits.clone(),
                    _ => return Err(format!("argument {} of {name} is a whole number", position + 1)),
                },
                Some(Argument::Written(Literal::Text | Literal::Pattern)) => self.text(term)?,
                None => return Err(format!("{name} takes {} argument(s)", function.arguments.len())),
            });
        }
        // Nothing is in lists that are all empty, and polars has no items of no kind.
        if let ("array_contains", Some(Kind::Nothing)) = (function.name, &list) {
            let sql = format!("(CASE WHEN {} IS NOT NULL THEN FALSE ELSE NULL END)", written[0]);
            return Ok(Written { sql, kind: Kind::Boolean });
        }
        let sql = format!("{name}({})", written.join(", "));
        Ok(match function.result {
            Outcome::Text => Written { sql, kind: Kind::Text },
            Outcome::Boolean => Written { sql, kind: Kind::Boolean },
            Outcome::Count => Written { sql: format!("CAST({sql} AS HUGEINT)"), kind: Kind::Whole },
            // A whole number has nothing to round.
            Outcome::Number if kind == Kind::Whole && function.name != "abs" => {
                Written { sql: written.swap_remove(0), kind }
            }
            Outcome::Number | Outcome::Alike => Written { sql, kind },
        })
    }
}

/// A number with a point, by which polars knows that it is a fraction.
fn decimal(number: f64) -> String {
    let text = number.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// Conditions joined in pairs, so that a long chain is not deep.
fn joined(conditions: &[String], word: &str) -> String {
    match conditions {
        [] => "TRUE".into(),
        [one] => one.clone(),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            format!("({} {word} {})", joined(left, word), joined(right, word))
        }
    }
}
