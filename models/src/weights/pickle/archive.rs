//! torch's newer format: [`Archive`] is a zip archive whose entries are stored uncompressed, so that storages are used
//! in place.
//!
//! ```text
//! archive/data.pkl     the pickle; the folder has the name of the file it was first saved as
//! archive/byteorder    `little`; not in files older than torch 2.1
//! archive/data/0       the bytes of storage "0"
//! ```
//! Zip as in PKWARE's APPNOTE 6.3.10, with zip64, which torch always writes. Only the central directory is trusted for
//! the list of entries; a local header is read only for its length. Two entries of one name are refused, because
//! readers differ in which they take. Not here: compression, encryption, archives in several files. Checksums are not
//! compared: that would read every weight.

use std::ops::Range;

use super::values::{Heap, Problem, Storage};
use crate::wording::clip;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const LOCATOR64: &[u8] = b"PK\x06\x07";

const LOCAL_LENGTH: usize = 30;
const CENTRAL_LENGTH: usize = 46;
const END_LENGTH: usize = 22;
const END64_LENGTH: usize = 56;
const LOCATOR64_LENGTH: usize = 20;
/// The value of a 32-bit field whose real value is in the zip64 part.
const ELSEWHERE: u64 = 0xffff_ffff;

pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    /// The folder of the pickle, with its slash.
    root: &'a str,
    /// Entries sorted by name.
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    name: &'a str,
    /// Offset of the local header.
    offset: usize,
    length: usize,
    /// Whether the content is neither compressed nor encrypted.
    plain: bool,
}

impl<'a> Archive<'a> {
    /// Whether `bytes` begin like a zip archive.
    pub fn is(bytes: &[u8]) -> bool {
        bytes.starts_with(LOCAL)
    }

    /// Reads the central directory.
    pub fn open(bytes: &'a [u8], heap: &mut Heap<'a>) -> Result<Self, Problem> {
        let directory = directory(bytes)?;
        let mut entries = Vec::new();
        let mut rest = directory;
        while !rest.is_empty() {
            let (entry, after) = entry(rest)?;
            heap.grow(&mut entries)?;
            entries.push(entry);
            rest = after;
        }
        entries.sort_unstable_by(|a: &Entry, b| a.name.cmp(b.name));
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(malformed(format!("`{}` twice", clip(pair[0].name))));
        }
        let pickle = |entry: &Entry<'a>| entry.name.strip_suffix("data.pkl").filter(|root| root.ends_with('/'));
        let mut roots = entries.iter().filter_map(pickle);
        let (Some(root), None) = (roots.next(), roots.next()) else {
            return Err(malformed("no `data.pkl` or several"));
        };
        let archive = Archive { bytes, root, entries };
        match archive.find("byteorder")?.map(|range| &bytes[range]) {
            None | Some(b"little") => Ok(archive),
            Some(other) => {
                let found = format!("`{}`", clip(&String::from_utf8_lossy(&other[..other.len().min(16)])));
                Err(Problem::malformed("the byte order `little`", found.escape_debug().to_string()))
            }
        }
    }

    /// The bytes of the pickle.
    pub fn pickle(&self) -> Result<&'a [u8], Problem> {
        let range = self.find("data.pkl")?.ok_or_else(|| malformed("no `data.pkl`"))?;
        Ok(&self.bytes[range])
    }

    /// The range of a storage's bytes.
    pub fn storage(&self, storage: &Storage) -> Result<Range<usize>, Problem> {
        let key = clip(storage.key);
        let found = self.find(&format!("data/{}", storage.key))?;
        let range = found.ok_or_else(|| malformed(format!("no entry `data/{key}` for the storage `{key}`")))?;
        match storage.bytes().filter(|bytes| *bytes <= range.len()) {
            Some(bytes) => Ok(range.start..range.start + bytes),
            None => {
                let expected = format!("{} elements in the storage `{key}`", storage.elements);
                Err(Problem::malformed(expected, format!("{} bytes", range.len())))
            }
        }
    }

    /// The range of an entry's content in the pickle's folder, if there is such an entry.
    fn find(&self, name: &str) -> Result<Option<Range<usize>>, Problem> {
        // Folder and name are compared as if they were one string.
        let order = |entry: &Entry| entry.name.bytes().cmp(self.root.bytes().chain(name.bytes()));
        let Ok(position) = self.entries.binary_search_by(order) else { return Ok(None) };
        let Entry { name, offset, length, plain } = self.entries[position];
        if !plain {
            return Err(malformed(format!("`{}` compressed or encrypted", clip(name))));
        }
        let header = self.bytes.get(offset..).and_then(|rest| rest.get(..LOCAL_LENGTH));
        let header = header.filter(|header| header.starts_with(LOCAL));
        let header =
            header.ok_or_else(|| malformed(format!("no entry at byte {offset}, where `{}` is", clip(name))))?;
        let start = offset + LOCAL_LENGTH + number(header, 26, 2) as usize + number(header, 28, 2) as usize;
        let range = start.checked_add(length).filter(|end| *end <= self.bytes.len()).map(|end| start..end);
        range.map(Some).ok_or_else(|| malformed(format!("`{}` of {length} bytes beyond its end", clip(name))))
    }
}

/// The bytes of the central directory.
fn directory(bytes: &[u8]) -> Result<&[u8], Problem> {
    const LONGEST_COMMENT: usize = 0xffff;
    let cut = || malformed("no directory at its end (cut off?)");
    let last = bytes.len().checked_sub(END_LENGTH).ok_or_else(cut)?;
    let first = last.saturating_sub(LONGEST_COMMENT);
    // The comment must reach to the end of the file, so that nothing inside it is taken for the end record.
    let is_end = |at: &usize| {
        bytes[*at..].starts_with(END) && at + END_LENGTH + number(bytes, at + 20, 2) as usize == bytes.len()
    };
    let end = (first..=last).rev().find(is_end).ok_or_else(cut)?;
    let (mut length, mut start) = (number(bytes, end + 12, 4), number(bytes, end + 16, 4));
    let locator = end.checked_sub(LOCATOR64_LENGTH).filter(|at| bytes[*at..].starts_with(LOCATOR64));
    if let Some(locator) = locator {
        let at = usize::try_from(number(bytes, locator + 8, 8)).ok();
        let end64 = at.and_then(|at| bytes.get(at..)).and_then(|rest| rest.get(..END64_LENGTH));
        let end64 = end64.filter(|end64| end64.starts_with(END64)).ok_or_else(cut)?;
        (length, start) = (number(end64, 40, 8), number(end64, 48, 8));
    }
    let range =
        |start: u64, length: u64| Some(usize::try_from(start).ok()?..usize::try_from(start.checked_add(length)?).ok()?);
    range(start, length).and_then(|range| bytes[..end].get(range)).ok_or_else(cut)
}

/// Splits a directory into its first entry and the rest.
fn entry(directory: &[u8]) -> Result<(Entry<'_>, &[u8]), Problem> {
    let cut = || malformed("a damaged directory");
    if directory.len() < CENTRAL_LENGTH || !directory.starts_with(CENTRAL) {
        return Err(cut());
    }
    let field = |at, length| number(directory, at, length);
    let [name, extra, comment] = [28, 30, 32].map(|at| field(at, 2) as usize);
    let rest = &directory[CENTRAL_LENGTH..];
    let (text, rest) = rest.split_at_checked(name).ok_or_else(cut)?;
    let (extra, rest) = rest.split_at_checked(extra).ok_or_else(cut)?;
    let (_, rest) = rest.split_at_checked(comment).ok_or_else(cut)?;
    let name = str::from_utf8(text).map_err(|_| cut())?;
    let [stored, length, offset] = sizes(extra, [field(20, 4), field(24, 4), field(42, 4)]).ok_or_else(cut)?;
    const ENCRYPTED: u64 = 1;
    let plain = field(10, 2) == 0 && field(8, 2) & ENCRYPTED == 0 && stored == length;
    Ok((Entry { name, offset, length, plain }, rest))
}

/// Sizes and offset of an entry; values that do not fit in 32 bits are in the zip64 part, in this order.
fn sizes(mut extra: &[u8], fields: [u64; 3]) -> Option<[usize; 3]> {
    const ZIP64: u64 = 1;
    let mut wide: &[u8] = &[];
    while extra.len() >= 4 {
        let (part, rest) = extra[4..].split_at_checked(number(extra, 2, 2) as usize)?;
        if number(extra, 0, 2) == ZIP64 {
            wide = part;
            break;
        }
        extra = rest;
    }
    let mut sizes = [0; 3];
    // In the zip64 part the length of the content comes before the stored length.
    for position in [1, 0, 2] {
        let mut size = fields[position];
        if size == ELSEWHERE {
            let (number, rest) = wide.split_first_chunk()?;
            (size, wide) = (u64::from_le_bytes(*number), rest);
        }
        sizes[position] = usize::try_from(size).ok()?;
    }
    Some(sizes)
}

/// Reads a little-endian number of up to eight bytes, which must be there.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn malformed(found: impl Into<String>) -> Problem {
    Problem::malformed("a zip archive of torch", found)
}
