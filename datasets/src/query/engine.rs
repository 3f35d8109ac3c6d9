//! polars: [`Asked`] is SQL that was written for it, and the answers to it about frames of rows. Nothing else here calls
//! it. Its SQL knows only expressions over the columns of a frame: there is no table to name, and no file.

use polars_core::prelude::{AnyValue, DataFrame, PolarsResult};
use polars_lazy::prelude::{Expr, IntoLazy, col};
use serde_json::{Map, Number, Value};

use super::frame::{Layout, ROW};
use crate::source::quietly;

/// How deep the parentheses of SQL may be that the engine's parser reads.
const PARENTHESES: usize = 40;

/// Expressions and the columns that they are over.
pub(super) struct Asked {
    expressions: Vec<Expr>,
    layout: Layout,
}

impl Asked {
    /// Expressions in SQL.
    ///
    /// # Errors
    /// What the engine does not take.
    pub fn new(sql: &[String], layout: Layout) -> Result<Self, String> {
        let named = |(place, sql): (usize, &String)| Ok(expression(sql)?.alias(name(place)));
        Ok(Self { expressions: sql.iter().enumerate().map(named).collect::<Result<_, String>>()?, layout })
    }

    /// Of each row, whether the first expression is true. `paths` are the columns that the query names.
    ///
    /// # Errors
    /// What the engine says about these values.
    pub fn truths(&self, paths: &[String], rows: &[&Map<String, Value>]) -> Result<Vec<bool>, String> {
        guarded(paths, || {
            let answer = self.ask(paths, rows)?;
            Ok(answer.column(&name(0))?.bool()?.iter().map(|truth| truth.unwrap_or(false)).collect())
        })
    }

    /// Of each row, the values of all expressions.
    ///
    /// # Errors
    /// What the engine says about these values; a value that no row can have.
    pub fn values(&self, paths: &[String], rows: &[&Map<String, Value>]) -> Result<Vec<Vec<Value>>, String> {
        let columns = guarded(paths, || {
            let answer = self.ask(paths, rows)?;
            let column = |place: usize| -> PolarsResult<Vec<Result<Value, String>>> {
                let column = answer.column(&name(place))?;
                (0..column.len()).map(|row| Ok(value(column.get(row)?))).collect()
            };
            (0..self.expressions.len()).map(column).collect::<PolarsResult<Vec<_>>>()
        })?;
        let of_row = |row: usize| columns.iter().map(|column| column[row].clone()).collect();
        (0..rows.len()).map(of_row).collect()
    }

    fn ask(&self, paths: &[String], rows: &[&Map<String, Value>]) -> PolarsResult<DataFrame> {
        // With the rows' numbers in it, an expression without a column has as many values as there are rows.
        let expressions: Vec<Expr> = std::iter::once(col(ROW)).chain(self.expressions.iter().cloned()).collect();
        self.layout.frame(paths, rows)?.lazy().select(expressions).collect()
    }
}

fn name(place: usize) -> String {
    format!("answer{place}")
}

/// Runs the engine. It is given nothing that it should give up on; if it does, that is an error and no end.
fn guarded<T>(paths: &[String], run: impl FnOnce() -> PolarsResult<T>) -> Result<T, String> {
    match quietly(run) {
        Ok(result) => result.map_err(|problem| said(paths, &problem.to_string())),
        Err(_) => Err("the engine gave up on these values; simplify the query".into()),
    }
}

/// What the engine says, with the columns' own names.
fn said(paths: &[String], text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let own = |piece: &str| {
        let number = piece.strip_prefix(['c', 'n', 't'])?.parse::<usize>().ok()?;
        paths.get(number).cloned()
    };
    let pieces: Vec<String> = line.split('\'').map(|piece| own(piece).unwrap_or_else(|| piece.into())).collect();
    pieces.join("'")
}

/// The engine's expression of SQL that was written for it.
fn expression(sql: &str) -> Result<Expr, String> {
    let (mut depth, mut deepest, mut text) = (0_usize, 0, false);
    for byte in sql.bytes() {
        match byte {
            b'\'' => text = !text,
            b'(' if !text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b')' if !text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    if deepest > PARENTHESES {
        return Err("it is nested too deep".into());
    }
    match quietly(|| polars_sql::sql_expr(sql)) {
        Ok(expression) => expression.map_err(|problem| problem.to_string()),
        Err(_) => Err("the engine gave up on it; simplify it".into()),
    }
}

/// A computed value as JSON.
fn value(value: AnyValue<'_>) -> Result<Value, String> {
    match value {
        AnyValue::Null => Ok(Value::Null),
        AnyValue::Boolean(truth) => Ok(truth.into()),
        AnyValue::String(text) => Ok(text.into()),
        AnyValue::StringOwned(text) => Ok(text.as_str().into()),
        AnyValue::Float64(number) => match Number::from_f64(number) {
            Some(number) => Ok(Value::Number(number)),
            None => Err(format!("a result of {number}, which is no number in JSON")),
        },
        AnyValue::Int128(number) => match (i64::try_from(number), u64::try_from(number)) {
            (Ok(number), _) => Ok(number.into()),
            (Err(_), Ok(number)) => Ok(number.into()),
            (Err(_), Err(_)) => Err(format!("a result of {number}, which needs more than 64 bits")),
        },
        other => Err(format!("a result of a kind that rows do not have ({})", other.dtype())),
    }
}
