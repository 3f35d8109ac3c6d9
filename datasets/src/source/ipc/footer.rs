//! The footer of an Arrow IPC file: [`Footer`] is its list of batches, followed by the list's length and the magic
//! word.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use polars_arrow::io::ipc::ARROW_MAGIC_V2;
use polars_arrow::io::ipc::format::ipc::FooterRef;
use polars_arrow::io::ipc::format::ipc::planus::ReadAsRoot;

use super::problem::Problem;
use crate::source::table::Guard;

/// Where the stream begins in an IPC file: after the magic word and its padding.
pub(super) const AFTER_MAGIC: u64 = 8;

/// Bytes of the footer's length and the magic word.
const TAIL: usize = 4 + ARROW_MAGIC_V2.len();

/// What the footer says of the file.
pub(super) struct Footer {
    /// Where the footer begins, and the batches end.
    pub start: u64,
    /// Number of batches.
    pub batches: usize,
}

impl Footer {
    pub fn read(file: &mut BufReader<File>, size: u64, guard: Guard<'_>) -> Result<Self, Problem> {
        let cut = |why: &str| Err(Problem::Refused(why.to_string()));
        let mut tail = [0; TAIL];
        let Some(end) = size.checked_sub(TAIL as u64).filter(|end| *end >= AFTER_MAGIC) else {
            return cut("it is cut off: the file ends without its footer");
        };
        file.seek(SeekFrom::Start(end))?;
        file.read_exact(&mut tail)?;
        let [a, b, c, d, magic @ ..] = tail;
        if magic != ARROW_MAGIC_V2 {
            return cut("it is cut off: the file ends without its footer");
        }
        let length = u64::try_from(i32::from_le_bytes([a, b, c, d])).ok();
        let Some(start) = length.and_then(|length| end.checked_sub(length)).filter(|start| *start >= AFTER_MAGIC)
        else {
            return cut("it is damaged: its footer states a length that it cannot have");
        };
        let mut bytes = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        let batches = guard.run(|| Ok(FooterRef::read_as_root(&bytes)?.record_batches()?.map_or(0, |all| all.len())));
        match batches {
            Ok(batches) => Ok(Self { start, batches }),
            Err(problem) => cut(&format!("it is damaged: its footer cannot be read ({problem})")),
        }
    }
}
