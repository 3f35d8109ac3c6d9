//! Rows that a query keeps: [`Selection`] looks at a whole source once, for the kinds of the columns that the query
//! names, and then reads it a second time in chunks. The engine sees the named columns of a chunk; a row that is kept
//! goes on with its own values, file and line.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::asked::Query;
use super::chosen::Chosen;
use super::engine::Asked;
use super::frame::Layout;
use super::kind::{Found, Kind, Seen};
use super::known::Known;
use super::statement::{Item, Output};
use super::write::Writer;
use crate::config::SourceConfig;
use crate::error::DataError;
use crate::source::columns::{Columns, nearest};
use crate::source::{self, Names, Reading, Row, find, weight};

/// Number of rows that the engine sees at a time, or of bytes that they take, whichever is reached first.
const CHUNK: usize = 2048;
const CHUNK_BYTES: usize = 4 << 20;
/// Number of rows after which the caller is asked whether to go on.
const ASK: usize = 1 << 12;
/// Number of column names that are remembered for messages.
const NAMES: usize = 1000;

/// A query that is being answered.
pub(crate) struct Selection<'q> {
    query: &'q Query,
    /// The renamed columns of the recipe, and those that the query names.
    columns: Columns,
    condition: Option<Asked>,
    /// The computed columns, in their order.
    computed: Option<Asked>,
    /// Number of rows of the source that can be read.
    rows: u64,
    passed: u64,
    kept: u64,
    /// Number of rows that could not be computed.
    broken: u64,
}

impl<'q> Selection<'q> {
    /// Looks at all rows of a source; `go_on` is asked now and then.
    ///
    /// # Errors
    /// A column that no row has, or values that the query cannot be asked about; when a file cannot be read.
    pub(crate) fn new(
        query: &'q Query,
        source: &SourceConfig,
        reading: &Reading<'_>,
        files: &[PathBuf],
        go_on: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<Self, DataError> {
        let paths = &query.statement.columns;
        let columns = source.columns.and_used(paths.iter().map(String::as_str));
        let reading = Reading { columns: &columns, ..*reading };
        let mut seen: Vec<Seen> = paths.iter().map(|_| Seen::default()).collect();
        let (mut names, mut rows, mut left) = (BTreeSet::new(), 0, ASK);
        for file in files {
            let cells = ["csv", "tsv"].contains(&source::read_as(file));
            let mut ended = false;
            source::read_unnamed(file, &reading, &mut |row| {
                left -= 1;
                if left == 0 {
                    left = ASK;
                    ended = go_on().is_break();
                }
                if let Ok(row) = row {
                    rows += 1;
                    for (path, seen) in paths.iter().zip(&mut seen) {
                        if let Some(value) = find(&row.object, path) {
                            seen.add(&value, &row.location, cells);
                        }
                    }
                    if names.len() < NAMES {
                        names.extend(row.object.keys().cloned());
                    }
                }
                if ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if ended {
                return Err(DataError::Interrupted);
            }
        }
        let absent = paths.iter().zip(&seen).find(|(_, seen)| rows > 0 && !seen.present);
        if let Some((path, _)) = absent {
            return Err(unknown(query, source, path, &names));
        }
        let mut selection =
            Self { query, columns, condition: None, computed: None, rows, passed: 0, kept: 0, broken: 0 };
        selection.write(&seen)?;
        Ok(selection)
    }

    /// Writes the condition and the computed columns for the engine.
    fn write(&mut self, seen: &[Seen]) -> Result<(), DataError> {
        let query = self.query;
        let statement = &query.statement;
        let items: &[Item] = match &statement.output {
            Output::Same => &[],
            Output::Columns(items) => items,
        };
        // What is only passed on may hold anything.
        let mut asked = BTreeSet::new();
        let terms = items.iter().filter_map(|item| match item {
            Item::All | Item::Column { .. } => None,
            Item::Computed { term, .. } => Some(term),
        });
        terms.chain(&statement.condition).for_each(|term| term.columns(&mut asked));
        let found: Vec<Found> = seen
            .iter()
            .enumerate()
            .map(|(column, seen)| match asked.contains(&column) {
                true => seen.found().map_err(|why| {
                    let name = &statement.columns[column];
                    query
                        .error(format!("`{name}` {why}; a column is of one kind in the whole source, so mend the rows"))
                }),
                false => Ok(Found { kind: Kind::Nothing, example: None, cells: None }),
            })
            .collect::<Result<_, _>>()?;
        let known = Known { columns: &statement.columns, found: &found };
        let writer = || Writer { known, layout: Layout::default() };
        if let Some(condition) = &statement.condition {
            let mut writer = writer();
            let sql = writer.condition(condition).map_err(|why| query.error(why))?;
            self.condition = Some(Asked::new(&[sql], writer.layout).map_err(|why| query.error(why))?);
        }
        let mut writer = writer();
        let mut computed = Vec::new();
        for item in items {
            if let Item::Computed { term, .. } = item {
                computed.push(writer.computed(term).map_err(|why| query.error(why))?);
            }
        }
        if !computed.is_empty() {
            self.computed = Some(Asked::new(&computed, writer.layout).map_err(|why| query.error(why))?);
        }
        Ok(())
    }

    /// Reads a file and passes on the rows that are kept, renamed by `names`. When the receiver has enough, the rest of
    /// the rows is still counted, unless `gone` says that nobody waits for it.
    ///
    /// # Errors
    /// When the file as a whole cannot be read.
    pub(crate) fn read(
        &mut self,
        path: &Path,
        reading: &Reading<'_>,
        names: &mut Names<'_>,
        receiver: &mut source::Receiver<'_>,
        gone: &dyn Fn() -> bool,
    ) -> Result<(), DataError> {
        let columns = self.columns.clone();
        let reading = Reading { columns: &columns, ..*reading };
        let mut enough = false;
        let mut emit = |row: Result<Row, DataError>| {
            if !enough && receiver(row.and_then(|row| names.rename(row))).is_break() {
                names.stop();
                enough = true;
            }
        };
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        source::read_unnamed(path, &reading, &mut |row| {
            bytes += row.as_ref().map_or(0, |row| weight(&row.object));
            chunk.push(row);
            if chunk.len() >= CHUNK || bytes >= CHUNK_BYTES {
                bytes = 0;
                self.pass(std::mem::take(&mut chunk), &mut emit);
            }
            if gone() || self.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !gone() {
            self.pass(chunk, &mut emit);
        }
        if self.is_full() {
            names.stop();
        }
        Ok(())
    }

    /// How many rows were kept.
    pub(crate) fn chosen(&self) -> Chosen {
        Chosen { kept: self.kept, left_out: self.rows.saturating_sub(self.kept + self.broken) }
    }

    fn is_full(&self) -> bool {
        self.query.statement.most.is_some_and(|most| self.kept >= most)
    }

    fn pass(&mut self, chunk: Vec<Result<Row, DataError>>, emit: &mut dyn FnMut(Result<Row, DataError>)) {
        let objects: Vec<&Map<String, Value>> =
            chunk.iter().filter_map(|row| row.as_ref().ok()).map(|row| &row.object).collect();
        let mut answers = self.answers(&objects).into_iter();
        let mut bytes = 0;
        for row in chunk {
            let answer = match &row {
                Ok(_) => answers.next().unwrap_or(Ok(None)),
                Err(_) if self.is_full() => Ok(None),
                Err(_) => {
                    emit(row);
                    continue;
                }
            };
            let Ok(mut row) = row else { continue };
            match answer {
                Ok(Some(object)) if self.passed >= self.query.statement.skip && !self.is_full() => {
                    self.kept += 1;
                    self.passed += 1;
                    row.bytes += std::mem::take(&mut bytes);
                    row.object = object;
                    emit(Ok(row));
                }
                Ok(answer) => {
                    self.passed += u64::from(answer.is_some());
                    bytes += row.bytes;
                }
                Err(_) if self.is_full() => {}
                Err(why) => {
                    self.broken += 1;
                    emit(Err(DataError::row(&row.location, self.query.expected(), why)));
                }
            }
        }
    }

    /// What becomes of each row: nothing where it is left out.
    fn answers(&self, rows: &[&Map<String, Value>]) -> Vec<Result<Option<Map<String, Value>>, String>> {
        let paths = &self.query.statement.columns;
        let kept: Vec<Result<bool, String>> = match &self.condition {
            None => rows.iter().map(|_| Ok(true)).collect(),
            Some(condition) => each(rows, &|rows| condition.truths(paths, rows)),
        };
        let chosen: Vec<&Map<String, Value>> =
            rows.iter().zip(&kept).filter(|(_, kept)| **kept == Ok(true)).map(|(row, _)| *row).collect();
        let computed = |rows: &[&Map<String, Value>]| match &self.computed {
            None => Ok(vec![Vec::new(); rows.len()]),
            Some(computed) => computed.values(paths, rows),
        };
        let mut values = each(&chosen, &computed).into_iter();
        let become_of = |(row, kept): (&&Map<String, Value>, Result<bool, String>)| match kept {
            Err(why) => Err(why),
            Ok(false) => Ok(None),
            Ok(true) => values.next().unwrap_or(Ok(Vec::new())).map(|values| Some(self.output(row, values))),
        };
        rows.iter().zip(kept).map(become_of).collect()
    }

    fn output(&self, row: &Map<String, Value>, computed: Vec<Value>) -> Map<String, Value> {
        let statement = &self.query.statement;
        let Output::Columns(items) = &statement.output else { return row.clone() };
        let (mut output, mut computed) = (Map::new(), computed.into_iter());
        for item in items {
            match item {
                Item::All => output.extend(row.iter().map(|(name, value)| (name.clone(), value.clone()))),
                Item::Column { column, name } => {
                    let value = find(row, &statement.columns[*column]).map_or(Value::Null, |value| value.into_owned());
                    output.insert(name.clone(), value);
                }
                Item::Computed { name, .. } => {
                    output.insert(name.clone(), computed.next().unwrap_or_default());
                }
            }
        }
        output
    }
}

/// Answers about some rows, one for each.
type Answers<'a, T> = dyn Fn(&[&Map<String, Value>]) -> Result<Vec<T>, String> + 'a;

/// Asks about all rows at once; where that fails, about each by itself, so that only the row at fault has the error.
fn each<T>(rows: &[&Map<String, Value>], ask: &Answers<'_, T>) -> Vec<Result<T, String>> {
    let one = |answer: Result<Vec<T>, String>| {
        answer.and_then(|mut answers| answers.pop().ok_or_else(|| "the engine gave no answer".to_string()))
    };
    match rows.len() {
        0 => Vec::new(),
        1 => vec![one(ask(rows))],
        count => match ask(rows) {
            Ok(answers) if answers.len() == count => answers.into_iter().map(Ok).collect(),
            Ok(_) | Err(_) => rows.iter().map(|row| one(ask(&[row]))).collect(),
        },
    }
}

/// The error of a column that no row has.
fn unknown(query: &Query, source: &SourceConfig, path: &str, names: &BTreeSet<String>) -> DataError {
    let near = nearest(path, names.iter().map(String::as_str));
    let there: Vec<&str> = names.iter().take(40).map(String::as_str).collect();
    let more = if names.len() > there.len() { ", .." } else { "" };
    let renamed = match source.columns.renamed(path) {
        Some(theirs) => format!("; a query names the file's own columns, here `{theirs}`"),
        None => "; text stands in single quotes, 'text'".into(),
    };
    query.error(format!("no row has a column `{path}`{near}; the columns are {}{more}{renamed}", there.join(", ")))
}
