//! Arrow IPC: [`Ipc`] reads `.arrow` files as `datasets` saves them (streams), and Feather and IPC files (a stream
//! between two magic words, with a footer). polars' stream reader reads one record batch after the other.
//!
//! That reader trusts the lengths in a file, so they are checked against the file's size first. It also ignores the
//! footer, so the footer is compared with what the stream holds: a file that is cut off is an error.

mod footer;
mod problem;
mod schema;
mod walk;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use polars_arrow::io::ipc::ARROW_MAGIC_V2;
use polars_arrow::io::ipc::read::{StreamReader, StreamState, read_stream_metadata};

use self::footer::{AFTER_MAGIC, Footer};
use self::problem::Problem;
use self::walk::{Content, Walk};
use super::reader::{Reader, Reading};
use super::row::Receiver;
use super::table::{Guard, Table};
use crate::error::DataError;

/// The reader of `.arrow` files.
pub(super) struct Ipc;

impl Reader for Ipc {
    fn extensions(&self) -> &'static [&'static str] {
        &["arrow", "feather", "ipc"]
    }

    fn is_text(&self) -> bool {
        false
    }

    fn read(&self, path: &Path, reading: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
        let guard = Guard { path };
        let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
        let (file, bytes) = super::table::open(path)?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut magic = [0; ARROW_MAGIC_V2.len()];
        let start = match file.read_exact(&mut magic) {
            Ok(()) if magic == ARROW_MAGIC_V2 => AFTER_MAGIC,
            Ok(()) if magic.starts_with(b"FEA1") => {
                return Err(guard.refused("a Feather file of version 1; write it again as version 2".into()));
            }
            _ => 0,
        };
        let content = check(&mut file, start, bytes, guard).map_err(|problem| match problem {
            Problem::Refused(why) => guard.refused(why),
            Problem::Unreadable(source) => unreadable(source),
        })?;
        let read = guard.run(|| schema::columns(&content.schema, reading.columns))?;
        file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        let metadata = guard.run(|| Ok(read_stream_metadata(&mut file)?))?;
        let all = metadata.schema.len();
        let named = read.iter().filter_map(|index| metadata.schema.get_at_index(*index));
        let names: Vec<String> = named.map(|(name, _)| name.to_string()).collect();
        let mut batches = StreamReader::new(file, metadata, (read.len() < all).then_some(read));
        let mut table = Table::new(path, bytes / content.rows.max(1), reading.columns);
        for _ in 0..content.batches {
            let batch = guard.run(|| match batches.next() {
                Some(Ok(StreamState::Some(batch))) => Ok(batch),
                Some(Err(problem)) => Err(problem.into()),
                None | Some(Ok(StreamState::Waiting)) => Err("it ends before its last batch".into()),
            })?;
            let count = batch.len();
            let arrays: Vec<_> = batch.into_arrays().into_iter().map(|array| vec![array]).collect();
            let columns: Vec<_> = names.iter().map(String::as_str).zip(&arrays).collect();
            if table.rows(&columns, count, guard, receiver)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The content of the stream, checked against the file's footer where there is one.
fn check(file: &mut BufReader<File>, start: u64, size: u64, guard: Guard<'_>) -> Result<Content, Problem> {
    let footer = if start == 0 { None } else { Some(Footer::read(file, size, guard)?) };
    let end = footer.as_ref().map_or(size, |footer| footer.start);
    let content = Walk { file, end, guard }.check(start)?;
    match footer {
        Some(Footer { batches, .. }) if batches != content.batches => Err(Problem::Refused(format!(
            "it is damaged: its footer names {batches} batches, and {} are there",
            content.batches
        ))),
        _ => Ok(content),
    }
}
