//! What the readers of binary tables share: columns become rows, and a damaged file becomes an error.

use std::error::Error;
use std::fs::File;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use polars_arrow::array::Array;
use serde_json::Map;

use super::{Receiver, Row, arrays};
use crate::error::DataError;
use crate::location::Location;

/// Opens a file and says how long it is.
pub(super) fn open(path: &Path) -> Result<(File, u64), DataError> {
    let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    Ok((file, bytes))
}

/// Turns what a reader makes of a damaged file into an error.
#[derive(Clone, Copy)]
pub(super) struct Guard<'a> {
    pub path: &'a Path,
}

impl Guard<'_> {
    /// Runs a part of a reader; a file it cannot digest is an error, even where the reader would panic.
    pub fn run<T>(self, read: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, DataError> {
        catch_unwind(AssertUnwindSafe(read))
            .map_err(|_| self.refused("its reader gave up: the file is damaged, or no such table".into()))?
            .map_err(|problem| self.refused(problem.to_string()))
    }

    pub fn refused(self, why: String) -> DataError {
        DataError::Table { path: self.path.to_path_buf(), why }
    }
}

/// A table whose rows are handed on.
pub(super) struct Table {
    path: Arc<Path>,
    rows: usize,
    bytes_per_row: u64,
}

impl Table {
    pub fn new(path: &Path, bytes_per_row: u64) -> Self {
        Self { path: Arc::from(path), rows: 0, bytes_per_row }
    }

    /// Hands on the next `count` rows, whose columns are `columns`, each in one or several arrays.
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
        let mut cursors = vec![(0, 0); columns.len()];
        for _ in 0..count {
            let object = guard.run(|| {
                let cells = columns.iter().zip(&mut cursors).map(|((name, arrays), (array, index))| {
                    while arrays[*array].len() == *index {
                        (*array, *index) = (*array + 1, 0);
                    }
                    let value = arrays::json(arrays[*array].as_ref(), *index);
                    *index += 1;
                    (name.to_string(), value)
                });
                Ok(cells.collect::<Map<_, _>>())
            })?;
            self.rows += 1;
            let location = Location::at(&self.path, self.rows);
            if receiver(Ok(Row { location, object, bytes: self.bytes_per_row })).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
