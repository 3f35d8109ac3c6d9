//! Arrow IPC: `.arrow` files as `datasets` saves them (streams), Feather and IPC files (a stream between two magic
//! words and a directory), through polars' reader of streams, one record batch after the other.
//!
//! The reader trusts the lengths in a file, so they are checked against the file's size before it sees them.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use polars_arrow::io::ipc::ARROW_MAGIC_V2;
use polars_arrow::io::ipc::format::ipc::planus::ReadAsRoot;
use polars_arrow::io::ipc::format::ipc::{MessageHeaderRef, MessageRef, RecordBatchRef};
use polars_arrow::io::ipc::read::{StreamReader, StreamState, read_stream_metadata};

use super::table::{Guard, Table};
use super::{Reader, Reading, Receiver};
use crate::error::DataError;

/// Where the stream begins in a file that is not one itself: the magic word is padded.
const AFTER_MAGIC: u64 = 8;
/// What stands before the length of a message, but in very old files.
const MARKER: [u8; 4] = [0xff; 4];
/// The longest description of a batch, and the most a compressed part of one may grow to.
const LONGEST_MESSAGE: usize = 64 << 20;
const LARGEST_PART: u64 = 1 << 30;

/// The reader of `.arrow` files.
pub(super) struct Ipc;

impl Reader for Ipc {
    fn extensions(&self) -> &'static [&'static str] {
        &["arrow", "feather", "ipc"]
    }

    fn is_text(&self) -> bool {
        false
    }

    fn read(&self, path: &Path, _: &Reading<'_>, receiver: &mut Receiver<'_>) -> Result<(), DataError> {
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
        let mut walk = Walk { file: &mut file, size: bytes, guard };
        let rows = walk.check(start).map_err(|problem| match problem {
            Problem::Refused(why) => guard.refused(why),
            Problem::Unreadable(source) => unreadable(source),
        })?;
        file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
        let metadata = guard.run(|| Ok(read_stream_metadata(&mut file)?))?;
        let names: Vec<String> = metadata.schema.iter_names().map(ToString::to_string).collect();
        let mut batches = StreamReader::new(file, metadata, None);
        let mut table = Table::new(path, bytes / rows.max(1));
        loop {
            let batch = guard.run(|| match batches.next() {
                // A stream that is cut between two batches ends like a whole one.
                None | Some(Ok(StreamState::Waiting)) => Ok(None),
                Some(Ok(StreamState::Some(batch))) => Ok(Some(batch)),
                Some(Err(problem)) => Err(problem.into()),
            })?;
            let Some(batch) = batch else { return Ok(()) };
            let count = batch.len();
            let arrays: Vec<_> = batch.into_arrays().into_iter().map(|array| vec![array]).collect();
            let columns: Vec<_> = names.iter().map(String::as_str).zip(&arrays).collect();
            if table.rows(&columns, count, guard, receiver)?.is_break() {
                return Ok(());
            }
        }
    }
}

enum Problem {
    Refused(String),
    Unreadable(std::io::Error),
}

impl From<std::io::Error> for Problem {
    fn from(problem: std::io::Error) -> Self {
        Self::Unreadable(problem)
    }
}

/// A look at every message of a stream, without its data.
struct Walk<'a> {
    file: &'a mut BufReader<File>,
    size: u64,
    guard: Guard<'a>,
}

impl Walk<'_> {
    /// The number of rows, when no length in the stream is larger than what there is.
    fn check(&mut self, start: u64) -> Result<u64, Problem> {
        let mut rows = 0;
        let mut at = start;
        while let Some(length) = self.length(at)? {
            let (head, length) = length;
            if length == 0 {
                break;
            }
            let message = self.bytes(at + head, length)?;
            let body = at + head + length as u64;
            let (batch_rows, body_length) = self.message(&message, body)?;
            rows += batch_rows;
            at = body + body_length;
            if at > self.size {
                return Err(Problem::Refused("it is cut short in the middle of a batch".into()));
            }
        }
        Ok(rows)
    }

    /// How many bytes lie before a message, and how long it is; absent at the end of the file.
    fn length(&mut self, at: u64) -> Result<Option<(u64, usize)>, Problem> {
        if at + 4 > self.size {
            return Ok(None);
        }
        let mut word: [u8; 4] = self.array(at)?;
        let mut head = 4;
        if word == MARKER {
            if at + 8 > self.size {
                return Ok(None);
            }
            word = self.array(at + 4)?;
            head = 8;
        }
        match usize::try_from(i32::from_le_bytes(word)) {
            Ok(length) if length <= LONGEST_MESSAGE && at + head + length as u64 <= self.size => {
                Ok(Some((head, length)))
            }
            _ => Err(Problem::Refused("no Arrow IPC file or stream, or a damaged one".into())),
        }
    }

    /// The rows of a message and the length of its body.
    fn message(&mut self, message: &[u8], body: u64) -> Result<(u64, u64), Problem> {
        let parsed = self.guard.run(|| {
            let message = MessageRef::read_as_root(message)?;
            let length = u64::try_from(message.body_length()?)?;
            let batch = match message.header()? {
                Some(MessageHeaderRef::RecordBatch(batch)) => Some(Shape::of(batch)?),
                Some(MessageHeaderRef::DictionaryBatch(dictionary)) => {
                    dictionary.data()?.map(Shape::of).transpose()?.map(|shape| Shape { rows: 0, ..shape })
                }
                _ => None,
            };
            Ok((length, batch))
        });
        let refused = |why: &str| Problem::Refused(why.to_string());
        let (length, batch) = parsed.map_err(|problem| Problem::Refused(problem.to_string()))?;
        let Some(batch) = batch else { return Ok((0, length)) };
        let mut widened = length;
        for (start, size) in &batch.parts {
            if start.checked_add(*size).is_none_or(|end| end > length) || body + length > self.size {
                return Err(refused("a part of a batch lies outside of it"));
            }
            if batch.compressed && *size >= 8 {
                let stated = i64::from_le_bytes(self.array(body + start)?);
                // -1 says that the part is not compressed after all.
                let stated = if stated == -1 { 0 } else { stated as u64 };
                if stated > LARGEST_PART {
                    return Err(refused("a part of a batch states a size of more than 1 GiB"));
                }
                widened = widened.saturating_add(stated);
            } else if batch.compressed && *size > 0 {
                return Err(refused("a compressed part of a batch is too short"));
            }
        }
        // A cell takes a bit at least, but in a column that is null altogether.
        if batch.longest > widened.saturating_mul(8).max(1 << 20) {
            return Err(refused("a batch states more rows than its bytes can hold"));
        }
        Ok((batch.rows, length))
    }

    fn array<const N: usize>(&mut self, at: u64) -> Result<[u8; N], Problem> {
        let mut bytes = [0; N];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, at: u64, length: usize) -> Result<Vec<u8>, Problem> {
        let mut bytes = vec![0; length];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// What a batch says of itself.
struct Shape {
    rows: u64,
    /// The longest of its arrays, nested ones too.
    longest: u64,
    /// Start and length of each part in the body.
    parts: Vec<(u64, u64)>,
    compressed: bool,
}

impl Shape {
    fn of(batch: RecordBatchRef<'_>) -> Result<Self, Box<dyn std::error::Error>> {
        let rows = u64::try_from(batch.length()?)?;
        let mut longest = rows;
        for node in batch.nodes()?.into_iter().flatten() {
            longest = longest.max(u64::try_from(node.length())?);
        }
        let mut parts = Vec::new();
        for part in batch.buffers()?.into_iter().flatten() {
            parts.push((u64::try_from(part.offset())?, u64::try_from(part.length())?));
        }
        Ok(Self { rows, longest, parts, compressed: batch.compression()?.is_some() })
    }
}
