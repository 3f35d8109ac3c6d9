//! The lengths in an Arrow IPC stream: [`Walk`] checks them against the file's size before anything is allocated by
//! them.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use polars_arrow::io::ipc::format::ipc::planus::ReadAsRoot;
use polars_arrow::io::ipc::format::ipc::{MessageHeaderRef, MessageRef, RecordBatchRef};

use super::problem::Problem;
use crate::source::table::Guard;

/// The marker before the length of a message; only very old files lack it.
const MARKER: [u8; 4] = [0xff; 4];
/// The longest message, and the largest decompressed size of one part of a batch, in bytes.
const LONGEST_MESSAGE: usize = 64 << 20;
const LARGEST_PART: u64 = 1 << 30;

/// A pass over every message of a stream that skips the data.
pub(super) struct Walk<'a> {
    pub file: &'a mut BufReader<File>,
    /// The last possible end of the stream.
    pub end: u64,
    pub guard: Guard<'a>,
}

/// The content of a stream.
#[derive(Default)]
pub(super) struct Content {
    /// The first message of the stream, which is the schema.
    pub schema: Vec<u8>,
    pub rows: u64,
    pub batches: usize,
}

impl Walk<'_> {
    /// Checks the stream that begins at `start`: no length in it may exceed what the file holds.
    pub fn check(&mut self, start: u64) -> Result<Content, Problem> {
        let mut content = Content::default();
        let mut at = start;
        while let Some(length) = self.length(at)? {
            let (head, length) = length;
            if length == 0 {
                break;
            }
            let message = self.bytes(at + head, length)?;
            let body = at + head + length as u64;
            let (batch_rows, body_length) = self.message(&message, body)?;
            if let Some(rows) = batch_rows {
                content.rows = content.rows.saturating_add(rows);
                content.batches += 1;
            }
            at = body.saturating_add(body_length);
            if content.schema.is_empty() {
                content.schema = message;
            }
            if at > self.end {
                return Err(Problem::Refused("it is cut short in the middle of a batch".into()));
            }
        }
        Ok(content)
    }

    /// The number of bytes before a message and the length of the message; absent at the end of the file. A stream that
    /// was cut between two batches ends like a whole one.
    fn length(&mut self, at: u64) -> Result<Option<(u64, usize)>, Problem> {
        if at + 4 > self.end {
            return Ok(None);
        }
        let mut word: [u8; 4] = self.array(at)?;
        let mut head = 4;
        if word == MARKER {
            if at + 8 > self.end {
                return Ok(None);
            }
            word = self.array(at + 4)?;
            head = 8;
        }
        match usize::try_from(i32::from_le_bytes(word)) {
            Ok(length) if length <= LONGEST_MESSAGE && at + head + length as u64 <= self.end => {
                Ok(Some((head, length)))
            }
            _ => Err(Problem::Refused("no Arrow IPC file or stream, or a damaged one".into())),
        }
    }

    /// For a message that is a batch, its number of rows; and the length of the message's body.
    fn message(&mut self, message: &[u8], body: u64) -> Result<(Option<u64>, u64), Problem> {
        let parsed = self.guard.run(|| {
            let message = MessageRef::read_as_root(message)?;
            let length = u64::try_from(message.body_length()?)?;
            Ok(match message.header()? {
                Some(MessageHeaderRef::RecordBatch(batch)) => (length, Some(Shape::of(batch)?), true),
                Some(MessageHeaderRef::DictionaryBatch(dictionary)) => {
                    (length, dictionary.data()?.map(Shape::of).transpose()?, false)
                }
                _ => (length, None, false),
            })
        });
        let refused = |why: &str| Problem::Refused(why.to_string());
        let (length, batch, is_rows) = parsed.map_err(|problem| Problem::Refused(problem.to_string()))?;
        let Some(batch) = batch else { return Ok((None, length)) };
        let mut widened = length;
        for (start, size) in &batch.parts {
            if start.checked_add(*size).is_none_or(|end| end > length) || body.saturating_add(length) > self.end {
                return Err(refused("a part of a batch lies outside of it"));
            }
            if batch.compressed && *size >= 8 {
                let stated = i64::from_le_bytes(self.array(body + start)?);
                // -1 says that this part is not compressed.
                let stated = if stated == -1 { 0 } else { stated as u64 };
                if stated > LARGEST_PART {
                    return Err(refused("a part of a batch states a size of more than 1 GiB"));
                }
                widened = widened.saturating_add(stated);
            } else if batch.compressed && *size > 0 {
                return Err(refused("a compressed part of a batch is too short"));
            }
        }
        // A cell takes at least one bit, except in a column of type null.
        if batch.longest > widened.saturating_mul(8).max(1 << 20) {
            return Err(refused("a batch states more rows than its bytes can hold"));
        }
        Ok((is_rows.then_some(batch.rows), length))
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

/// The sizes that a batch states.
struct Shape {
    rows: u64,
    /// Length of the longest of its arrays, including nested ones.
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
