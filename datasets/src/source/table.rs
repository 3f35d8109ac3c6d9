//! Binary tables: [`Table`] turns columns into rows, and [`Guard`] turns a damaged file into an error.

use std::error::Error;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use polars_arrow::array::Array;
use serde_json::Map;

use super::arrays;
use super::columns::{Columns, Use};
use super::quiet::quietly;
use super::row::{Receiver, Row};
use crate::error::DataError;
use crate::location::Location;

/// Opens a file and returns its length in bytes.
pub(super) fn open(path: &Path) -> Result<(File, u64), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    Ok((file, bytes))
}

/// Turns the panics and errors of a reader of a damaged file into errors that name the file.
#[derive(Clone, Copy)]
pub(super) struct Guard<'a> {
    pub path: &'a Path,
}

impl Guard<'_> {
    /// Runs a part of a reader; its errors and its panics become an error.
    pub fn run<T>(self, read: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, DataError> {
        quietly(read)
            .map_err(|_| self.refused("its reader gave up: the file is damaged, or no such table".into()))?
            .map_err(|problem| self.refused(problem.to_string()))
    }

    pub fn refused(self, why: String) -> DataError {
        DataError::Table { path: self.path.to_path_buf(), why }
    }
}

/// A table whose rows are passed on.
pub(super) struct Table<'a> {
    path: Arc<Path>,
    rows: usize,
    bytes_per_row: u64,
    names: &'a Columns,
}

impl<'a> Table<'a> {
    pub fn new(path: &Path, bytes_per_row: u64, names: &'a Columns) -> Self {
        Self { path: Arc::from(path), rows: 0, bytes_per_row, names }
    }

    /// Passes on the next `count` rows of `columns`, each given as one or several arrays.
    pub fn rows(
        &mut self,
        columns: &[(&str, &Vec<Box<dyn Array>>)],
        count: usize,
        guard: Guard<'_>,
        receiver: &mut Receiver<'_>,
    ) -> Result<ControlFlow<()>, DataError> {
        if let Some((name, _)) =
            columns.iter().find(|(_, arrays)| arrays.iter().map(|array| array.len()).sum::<usize>() != count)
        {
            return Err(guard.refused(format!("the column `{name}` has not as many cells as there are rows ({count})")));
        }
        let uses: Vec<Use<'_>> = columns.iter().map(|(name, _)| self.names.used(name)).collect();
        let mut cursors = vec![(0, 0); columns.len()];
        for _ in 0..count {
            self.rows += 1;
            let location = Location::at(&self.path, self.rows);
            let row = guard.run(|| {
                let mut object = Map::new();
                let mut wrong = None;
                for (((name, arrays), used), (array, index)) in columns.iter().zip(&uses).zip(&mut cursors) {
                    while arrays[*array].len() == *index {
                        (*array, *index) = (*array + 1, 0);
                    }
                    match arrays::json(arrays[*array].as_ref(), *index, used) {
                        Ok(value) => drop(object.insert(name.to_string(), value)),
                        Err(found) => wrong = wrong.or(Some((*name, found))),
                    }
                    *index += 1;
                }
                Ok(match wrong {
                    None => Ok(object),
                    Some((name, found)) => {
                        Err(DataError::row(&location, format!("a value that JSON has in `{name}`"), found))
                    }
                })
            })?;
            let bytes = self.bytes_per_row;
            if receiver(row.map(|object| Row::new(location, object, bytes))).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::quiet::CAUGHT;
    use super::*;

    #[test]
    fn a_panic_of_a_reader_is_an_error_and_nothing_else_changes() {
        let guard = Guard { path: Path::new("rows.arrow") };
        let error = guard.run(|| -> Result<(), _> { panic!("never seen") }).unwrap_err().to_string();
        assert!(error.contains("rows.arrow") && error.contains("gave up"), "{error}");
        assert!(!CAUGHT.get());
        assert!(guard.run(|| Ok(CAUGHT.get())).unwrap());
        assert!(guard.run(|| -> Result<(), _> { Err("why".into()) }).unwrap_err().to_string().contains("why"));
        assert!(!CAUGHT.get());
    }
}
