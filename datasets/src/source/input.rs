//! Text files as streams of UTF-8: [`Input`] opens a file, decompresses it where its name ends in `.gz` or `.zst`, decodes
//! it, and counts the bytes read.
//!
//! Decompression is streamed, and the readers of formats bound what they hold ([`LONGEST`]). So a file that grows a
//! thousandfold when decompressed costs time and no memory.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use super::encoding::{self, Decoded, Reads, TextEncoding};
use crate::error::DataError;

/// The longest row of a text file, in bytes.
pub(super) const LONGEST: usize = 64 << 20;

const BUFFER: usize = 1 << 20;

/// File-name endings of compressed files.
pub(super) const COMPRESSED: [&str; 2] = ["gz", "zst"];

/// An open text file.
pub(super) struct Input {
    reader: Box<dyn BufRead>,
    /// Number of bytes read from the file itself, before decompression.
    taken: Rc<Cell<u64>>,
    reported: u64,
}

impl Input {
    /// Opens a file, which is UTF-8, UTF-16 with its mark, or in the encoding that the recipe names.
    pub fn open(path: &Path, asked: Option<TextEncoding>) -> Result<Self, DataError> {
        let unreadable = |source| DataError::Read { path: path.to_path_buf(), source };
        let taken = Rc::new(Cell::new(0));
        let mut reader = counted(path, Rc::clone(&taken)).map_err(unreadable)?;
        let start = reader.fill_buf().map_err(unreadable)?;
        let reads =
            encoding::reads(start, asked).map_err(|why| DataError::Source { path: path.display().to_string(), why })?;
        let reader = match reads {
            Reads::AsUtf8 => reader,
            Reads::As(encoding) => Box::new(BufReader::with_capacity(BUFFER, Decoded::new(reader, encoding))),
        };
        Ok(Self { reader, taken, reported: 0 })
    }

    /// Number of bytes of the file read since the last call: the share of the rows since then.
    pub fn take_bytes(&mut self) -> u64 {
        let taken = self.taken.get();
        let since = taken - self.reported;
        self.reported = taken;
        since
    }

    /// The counter behind [`Input::take_bytes`], for callers that give the reader away.
    pub fn counter(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.taken)
    }

    /// Reads one line with its newline into `line`, which is cleared first; returns its length, 0 at the end. Of a line
    /// longer than [`LONGEST`] only the beginning is kept, but its whole length is returned.
    pub fn line(&mut self, line: &mut Vec<u8>) -> io::Result<usize> {
        line.clear();
        let mut length = 0;
        loop {
            let buffer = self.reader.fill_buf()?;
            let (piece, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            let room = (LONGEST + 1).saturating_sub(line.len());
            line.extend_from_slice(&buffer[..piece.min(room)]);
            self.reader.consume(piece);
            length += piece;
            if ended {
                return Ok(length);
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
    }
}

/// A file as the bytes that it holds when it is decompressed.
pub(super) fn decompressed(path: &Path) -> io::Result<Box<dyn BufRead>> {
    counted(path, Rc::default())
}

/// The same, with a count of the bytes read of the file itself.
fn counted(path: &Path, taken: Rc<Cell<u64>>) -> io::Result<Box<dyn BufRead>> {
    let file = BufReader::with_capacity(BUFFER, Counted { file: File::open(path)?, taken });
    Ok(match compression(path) {
        None => Box::new(file),
        Some("gz") => Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(file))),
        Some(_) => {
            let decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        }
    })
}

/// The compression that a file's name states.
pub(super) fn compression(path: &Path) -> Option<&'static str> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    COMPRESSED.into_iter().find(|known| *known == ending)
}

/// The bytes without the byte order mark that some programs write before UTF-8.
pub(super) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

struct Counted {
    file: File,
    taken: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.taken.set(self.taken.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(path: &Path) -> Vec<(usize, usize)> {
        let mut input = Input::open(path, None).unwrap();
        let mut line = Vec::new();
        let mut found = Vec::new();
        loop {
            match input.line(&mut line).unwrap() {
                0 => return found,
                length => found.push((length, line.len())),
            }
        }
    }

    #[test]
    fn compressed_files_are_read_as_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        let text = b"one\ntwo\n\nfour";
        let plain = dir.path().join("a.jsonl");
        std::fs::write(&plain, text).unwrap();
        let gz = dir.path().join("a.jsonl.gz");
        let mut bytes = Vec::new();
        // A gzip file of two members, as programs that append write it.
        for half in [&text[..5], &text[5..]] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(half).unwrap();
            bytes.extend(encoder.finish().unwrap());
        }
        std::fs::write(&gz, bytes).unwrap();
        let zst = dir.path().join("a.jsonl.ZST");
        let frames = [&text[..5], &text[5..]].map(|half| zstd::stream::encode_all(half, 3).unwrap());
        std::fs::write(&zst, frames.concat()).unwrap();
        for path in [plain, gz, zst] {
            assert_eq!(lines(&path), [(4, 4), (4, 4), (1, 1), (4, 4)], "{}", path.display());
        }
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bomb.jsonl.zst");
        let mut encoder = zstd::stream::write::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
        let zeros = vec![b' '; 1 << 20];
        for _ in 0..80 {
            encoder.write_all(&zeros).unwrap();
        }
        encoder.write_all(b"\nnext\n").unwrap();
        encoder.finish().unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 1 << 16);
        assert_eq!(lines(&path), [((80 << 20) + 1, LONGEST + 1), (5, 5)]);
    }

    #[test]
    fn damaged_compression_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.jsonl.gz", "a.jsonl.zst"] {
            let path = dir.path().join(name);
            std::fs::write(&path, b"\x1f\x8bnothing of the kind").unwrap();
            assert!(Input::open(&path, None).map(|mut input| input.line(&mut Vec::new()).unwrap()).is_err(), "{name}");
        }
    }
}
