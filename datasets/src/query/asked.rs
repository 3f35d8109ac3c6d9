//! `where` and `sql` of a source: [`Query`] is what a recipe asks, understood before any row is read.

use super::parse;
use super::statement::Statement;
use crate::config::SourceConfig;
use crate::error::DataError;

/// The most characters of a query that a message shows.
const LONGEST: usize = 300;

/// What a source is asked.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    path: String,
    /// `where` or `sql`.
    key: &'static str,
    sql: String,
    pub(super) statement: Statement,
}

impl Query {
    /// The query of a source; absent where it has none.
    ///
    /// # Errors
    /// What in it is no SQL, or asks for more than one row can answer.
    pub(crate) fn of(source: &SourceConfig) -> Result<Option<Self>, DataError> {
        let path = source.path.clone();
        let (key, sql, statement) = match (&source.keep, &source.sql) {
            (None, None) => return Ok(None),
            (Some(condition), None) => ("where", condition, parse::condition(condition)),
            (None, Some(sql)) => ("sql", sql, parse::selection(sql)),
            (Some(_), Some(_)) => {
                let why = "both say which rows are kept; the condition goes into sql, SELECT .. FROM self WHERE ..";
                return Err(DataError::Config(format!("{path}: `where` and `sql`: {why}")));
            }
        };
        match statement {
            Ok(statement) => Ok(Some(Self { path, key, sql: sql.clone(), statement })),
            Err(why) => Err(DataError::Query { path, key, sql: shortened(sql), why }),
        }
    }

    /// Whether the query looks at a column, or at a part of it.
    pub(crate) fn reads(&self, column: &str) -> bool {
        let parts = |name: &str| name.strip_prefix(column).is_some_and(|rest| rest.starts_with('.'));
        self.statement.columns.iter().any(|name| name == column || parts(name))
    }

    pub(super) fn error(&self, why: impl Into<String>) -> DataError {
        DataError::Query { path: self.path.clone(), key: self.key, sql: shortened(&self.sql), why: why.into() }
    }

    /// The error of a query that keeps none of `rows` rows.
    pub(crate) fn keeps_nothing(&self, rows: u64) -> DataError {
        self.error(format!(
            "it keeps none of the {rows} row(s); a row is left out where the condition is false or NULL (a column that \
             the row does not have is NULL)"
        ))
    }

    /// What a value must be for the query, for the error of a row.
    pub(super) fn expected(&self) -> String {
        format!("values for {} = {:?}", self.key, shortened(&self.sql))
    }
}

/// A query for a message.
fn shortened(sql: &str) -> String {
    match sql.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ..", &sql[..end]),
        None => sql.into(),
    }
}
