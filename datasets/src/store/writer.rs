//! Writing a store: [`Writer`] appends examples to the file as they come. Their entries go to a second file, which is
//! appended at the end, so memory does not grow with the number of examples.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use super::Meta;
use super::content;
use super::entry::Entry;
use super::header::{HEADER, Header};
use crate::example::{Example, ExampleContent};
use crate::kind::RowKind;
use crate::reference;

/// An example as bytes. Making it takes most of the time, so it is made on all cores.
pub(crate) struct Prepared {
    entry: Entry,
    bytes: Vec<u8>,
}

impl Prepared {
    /// `file` is the number of the row's file, `share` the hash of the row's content.
    pub fn new(example: &Example, file: u32, share: u64) -> Self {
        let bytes = content::encode(&example.content, reference::folder(&example.source));
        Self { entry: Entry::new(example, file, share), bytes }
    }

    /// The examples of one row.
    pub fn row(examples: &[Example], file: u32, share: u64) -> Vec<Self> {
        let mut row: Vec<Self> = examples.iter().map(|example| Self::new(example, file, share)).collect();
        row.iter_mut().skip(1).for_each(|prepared| prepared.entry.goes_on = true);
        row
    }

    /// The better and the worse answer of a pair, in this order.
    pub fn pair(chosen: &Example, rejected: &Example, file: u32, share: u64) -> Vec<Self> {
        let mut pair = [chosen, rejected].map(|example| Self::new(example, file, share));
        pair[1].entry.equals_chosen = match (&chosen.content, &rejected.content) {
            (ExampleContent::Tokens(chosen), ExampleContent::Tokens(rejected)) => {
                chosen.input_ids == rejected.input_ids
            }
            (ExampleContent::Tokens(_) | ExampleContent::Tensors(_) | ExampleContent::Pictured(_), _) => {
                chosen.content == rejected.content
            }
        };
        pair[1].entry.goes_on = true;
        pair.into()
    }

    /// Number of its tokens.
    pub fn tokens(&self) -> usize {
        self.entry.length as usize
    }
}

/// A store being written.
pub(crate) struct Writer {
    data: BufWriter<File>,
    index: BufWriter<File>,
    examples: u64,
    bytes: u64,
}

impl Writer {
    /// Writes the store to `file`, and its entries to `index` until the end. Both files are empty.
    pub fn new(mut file: File, index: File) -> io::Result<Self> {
        file.write_all(&[0; HEADER])?;
        let index = BufWriter::with_capacity(1 << 18, index);
        Ok(Self { data: BufWriter::with_capacity(1 << 20, file), index, examples: 0, bytes: 0 })
    }

    /// Appends an example.
    pub fn append(&mut self, example: Prepared) -> io::Result<()> {
        let Prepared { mut entry, bytes } = example;
        entry.place = (self.bytes, bytes.len() as u64);
        self.data.write_all(&bytes)?;
        self.index.write_all(&entry.to_bytes())?;
        self.examples += 1;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Finishes the store, all of whose examples are of `kind`. The file is not synced.
    pub fn finish(self, kind: RowKind, meta: &Meta) -> io::Result<()> {
        let Self { mut data, index, examples, bytes } = self;
        let mut index = index.into_inner()?;
        index.seek(SeekFrom::Start(0))?;
        let mut index = BufReader::with_capacity(1 << 18, index);
        let mut hash = Sha256::new();
        let mut block = vec![0; 1 << 18];
        loop {
            let read = index.read(&mut block)?;
            if read == 0 {
                break;
            }
            hash.update(&block[..read]);
            data.write_all(&block[..read])?;
        }
        let meta = serde_json::to_vec(meta)?;
        hash.update(&meta);
        data.write_all(&meta)?;
        let mut file = data.into_inner()?;
        file.seek(SeekFrom::Start(0))?;
        let header =
            Header { kind, examples, data: bytes, meta: meta.len() as u64, index_hash: hash.finalize().into() };
        file.write_all(&header.to_bytes())
    }
}
