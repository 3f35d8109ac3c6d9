//! Writing a store, example by example: they go to the file as they come, their entries to a file of their own that is
//! appended at the end, so that memory does not grow with them.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use super::Meta;
use super::entry::Entry;
use super::header::{HEADER, Header};
use super::{tensors, tokens};
use crate::example::{Example, ExampleContent};
use crate::kind::RowKind;
use crate::reference;

/// An example ready to be written; making it is the work, so it is made on all cores.
pub(crate) struct Prepared {
    entry: Entry,
    bytes: Vec<u8>,
}

impl Prepared {
    /// `file` is the number of the row's file, `share` the hash of what stood there.
    pub fn new(example: &Example, file: u32, share: u64) -> Self {
        let bytes = match &example.content {
            ExampleContent::Tokens(content) => tokens::encode(content),
            ExampleContent::Tensors(file) => tensors::encode(file, reference::folder(&example.source)),
        };
        Self { entry: Entry::new(example, file, share), bytes }
    }

    /// The examples of one row.
    pub fn row(examples: &[Example], file: u32, share: u64) -> Vec<Self> {
        let mut row: Vec<Self> = examples.iter().map(|example| Self::new(example, file, share)).collect();
        row.iter_mut().skip(1).for_each(|prepared| prepared.entry.goes_on = true);
        row
    }

    /// A better and a worse answer, one behind the other.
    pub fn pair(chosen: &Example, rejected: &Example, file: u32, share: u64) -> Vec<Self> {
        let mut pair = [chosen, rejected].map(|example| Self::new(example, file, share));
        pair[1].entry.equals_chosen = match (&chosen.content, &rejected.content) {
            (ExampleContent::Tokens(chosen), ExampleContent::Tokens(rejected)) => {
                chosen.input_ids == rejected.input_ids
            }
            (ExampleContent::Tokens(_) | ExampleContent::Tensors(_), _) => chosen.content == rejected.content,
        };
        pair[1].entry.goes_on = true;
        pair.into()
    }

    /// Its tokens.
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
    /// Writes to `file`; `index` holds the entries meanwhile. Both are empty.
    pub fn new(mut file: File, index: File) -> io::Result<Self> {
        file.write_all(&[0; HEADER])?;
        let index = BufWriter::with_capacity(1 << 18, index);
        Ok(Self { data: BufWriter::with_capacity(1 << 20, file), index, examples: 0, bytes: 0 })
    }

    /// Adds an example.
    pub fn append(&mut self, example: Prepared) -> io::Result<()> {
        let Prepared { mut entry, bytes } = example;
        entry.place = (self.bytes, bytes.len() as u64);
        self.data.write_all(&bytes)?;
        self.index.write_all(&entry.to_bytes())?;
        self.examples += 1;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes it whole, all of its examples being of `kind`. The file is not synced.
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
