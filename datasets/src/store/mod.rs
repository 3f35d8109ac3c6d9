//! The store of prepared rows: [`Store`] is a file mapped into memory, from which training reads its batches.
//!
//! A store is written once, from its first example to its last, and never changed. Opening one checks its header, the
//! lengths of its parts and the hash of its index. Each example is checked by its own hash when it is read. So opening
//! is quick, and damage is an error, never wrong numbers. The same rows give the same bytes.
//!
//! The mapping is read-only. A program that shortens the file while it is mapped ends this process, as with weights;
//! stores are only replaced by renaming and removed by name, which is safe.

mod bytes;
mod content;
mod entry;
mod header;
mod labels;
mod pictured;
mod tensors;
mod tokens;
mod writer;

pub use entry::Entry;
pub(crate) use header::STORE_VERSION;
pub(crate) use writer::{Prepared, Writer};

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::Format;
use crate::error::DataError;
use crate::example::Example;
use crate::format::Unread;
use crate::kind::RowKind;
use crate::location::Location;
use crate::query::Chosen;
use crate::reference;
use entry::ENTRY;
use header::{HEADER, Header};

/// Bytes of the index that are read before their pages are released.
const BLOCK: usize = 1 << 23;

/// What is stored about all rows together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The sources, in their order.
    pub sources: Vec<SourceMeta>,
    /// Rows left out because of their length.
    pub dropped: Vec<Dropped>,
    /// Rows left out because they could not be used.
    pub broken: BrokenMeta,
    /// Rows left out because something in them is empty.
    pub empty: EmptyMeta,
    /// The data files that the store was made of, for display.
    pub files: Vec<String>,
    /// Number of tokens of all rows.
    pub tokens: u64,
    /// How many rows the queries of sources kept, with the numbers of the sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<(usize, Chosen)>,
}

/// What is stored about a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceMeta {
    /// Its format.
    pub format: Format,
    /// Why it was chosen.
    pub why: String,
    /// What nothing reads of its rows.
    pub unread: Unread,
}

/// Rows that could not be used and were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokenMeta {
    pub count: usize,
    /// File and line of the first row with each problem, and the problem.
    pub first: Vec<(u32, u64, String)>,
}

/// Rows in which something is empty and that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EmptyMeta {
    pub count: usize,
    /// File and line of the first.
    pub first: Vec<(u32, u64)>,
}

/// A row that was left out because of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    /// Number of its file.
    pub file: u32,
    pub line: u64,
    /// Its share, as in [`Entry`].
    pub share: u64,
    /// Its length in tokens.
    pub tokens: usize,
}

/// An open store.
#[derive(Debug)]
pub(crate) struct Store {
    map: Mmap,
    path: PathBuf,
    /// What all of its examples are made of.
    pub kind: RowKind,
    examples: usize,
    data: usize,
    pub meta: Meta,
    /// The files that rows came from, under their present paths.
    files: Vec<Arc<Path>>,
}

impl Store {
    /// Opens and checks a store; `path` is for messages, `files` gives the paths of its numbered files.
    ///
    /// # Errors
    /// When it is not a whole store of this version.
    pub fn open(file: &File, path: &Path, files: Vec<Arc<Path>>) -> Result<Self, DataError> {
        let damaged = |why: &str| DataError::Store { path: path.to_path_buf(), why: why.to_string() };
        let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
        let size = file.metadata().map_err(unreadable)?.len();
        if size < HEADER as u64 {
            return Err(damaged("it is too short"));
        }
        // SAFETY: the mapping is only read; see the module doc for a file changed underneath.
        let map = unsafe { Mmap::map(file) }.map_err(unreadable)?;
        let header = Header::from_bytes(&map[..HEADER], map.len() as u64).map_err(damaged)?;
        // `Header::from_bytes` has checked that the parts add up to the file's size.
        let (examples, data, meta) = (header.examples as usize, header.data as usize, header.meta as usize);
        let (path_here, kind) = (path.to_path_buf(), header.kind);
        let mut store = Self { map, path: path_here, kind, examples, data, meta: Meta::default(), files };
        let mut hash = Sha256::new();
        store.blocks(|block| hash.update(block));
        let meta = &store.map[store.map.len() - meta..];
        hash.update(meta);
        if <[u8; 32]>::from(hash.finalize()) != header.index_hash {
            return Err(damaged("its index is damaged"));
        }
        store.meta = serde_json::from_slice(meta).map_err(|problem| damaged(&problem.to_string()))?;
        Ok(store)
    }

    /// Number of examples and meta data of a store, without a check of its index: for `cache list`.
    pub fn peek(file: &File) -> Option<(u64, Meta)> {
        let size = file.metadata().ok().filter(|metadata| metadata.len() >= HEADER as u64)?.len();
        // SAFETY: as above.
        let map = unsafe { Mmap::map(file) }.ok()?;
        let header = Header::from_bytes(&map[..HEADER], size).ok()?;
        let meta = map.get(map.len() - header.meta as usize..)?;
        Some((header.examples, serde_json::from_slice(meta).ok()?))
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples
    }

    /// Calls `look` with the number and entry of every example, in order and in bounded memory.
    pub fn entries(&self, mut look: impl FnMut(usize, Entry)) {
        let mut number = 0;
        self.blocks(|block| {
            for entry in block.chunks_exact(ENTRY).filter_map(Entry::from_bytes) {
                look(number, entry);
                number += 1;
            }
        });
    }

    /// The entry of an example; absent beyond the last.
    pub fn entry(&self, number: usize) -> Option<Entry> {
        let start = HEADER + self.data + number * ENTRY;
        (number < self.examples).then(|| Entry::from_bytes(&self.map[start..start + ENTRY])).flatten()
    }

    /// File and line of the row of an example.
    pub fn location(&self, entry: &Entry) -> Location {
        self.place(entry.file, entry.line)
    }

    /// The location of a line in the file of this number.
    pub fn place(&self, file: u32, line: u64) -> Location {
        let path = self.files.get(file as usize).cloned();
        Location { path: path.unwrap_or_else(|| Arc::from(Path::new("?"))), line: line as usize }
    }

    /// The example of this number, as it was encoded.
    ///
    /// # Errors
    /// When its bytes are not those that were written.
    pub fn read(&self, number: usize) -> Result<Example, DataError> {
        let entry = self.entry(number).ok_or_else(|| self.damaged(number, "there is no such example"))?;
        let range = || -> Option<Range<usize>> {
            let start = usize::try_from(entry.place.0).ok()?;
            let end = start.checked_add(usize::try_from(entry.place.1).ok()?)?;
            (end <= self.data).then_some(HEADER + start..HEADER + end)
        };
        let bytes = range().and_then(|range| self.map.get(range));
        let source = self.location(&entry);
        let (length, folder) = (entry.length as usize, reference::folder(&source));
        let content = bytes.and_then(|bytes| content::decode(self.kind, bytes, length, folder));
        let content = content.ok_or_else(|| self.damaged(number, "its bytes are no example"))?;
        let (part, source_index) = (entry.part, entry.source_index as usize);
        let example = Example { source, content, part, source_index, notes: entry.notes };
        match example.digest() == entry.digest {
            true => Ok(example),
            false => Err(self.damaged(number, "it is not what was written")),
        }
    }

    fn damaged(&self, number: usize, why: &str) -> DataError {
        DataError::Store { path: self.path.clone(), why: format!("example {}: {why}", number + 1) }
    }

    /// Calls `look` with the index, a block at a time. Blocks need not stay in memory.
    fn blocks(&self, mut look: impl FnMut(&[u8])) {
        let start = HEADER + self.data;
        for offset in (0..self.examples * ENTRY).step_by(BLOCK) {
            let range = start + offset..start + (offset + BLOCK).min(self.examples * ENTRY);
            look(&self.map[range.clone()]);
            self.give_back(range);
        }
    }

    /// Tells the system that it may drop these pages; they are read from the file again when they are needed.
    #[cfg(unix)]
    fn give_back(&self, range: Range<usize>) {
        // SAFETY: the mapping is shared, never written, and its file never changes: pages come back as they were.
        let _ =
            unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len()) };
    }

    #[cfg(not(unix))]
    fn give_back(&self, _: Range<usize>) {}
}

#[cfg(test)]
mod tests;
