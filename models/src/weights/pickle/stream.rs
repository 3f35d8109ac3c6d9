//! torch's older format, of all files before torch 1.6 (2020): [`Stream`] is several pickles, followed by the storages.
//!
//! ```text
//! 0x1950a86a20f9469cfc6c   a pickle of this number
//! 1001                     the version, the only one there was
//! {"little_endian": ..}    the machine that wrote it
//! the object
//! the keys of the storages, in the order in which they follow
//! for each storage: number of elements in eight bytes, then the elements
//! ```

use std::ops::Range;

use super::{
    machine,
    values::{Heap, Problem, Storage, Value},
};
use crate::wording::clip;

const VERSION: i64 = 1001;

pub(super) struct Stream<'a> {
    /// The saved object.
    pub object: Value<'a>,
    /// Places of storages, sorted by key.
    storages: Vec<Place<'a>>,
}

struct Place<'a> {
    storage: Storage<'a>,
    range: Range<usize>,
}

impl<'a> Stream<'a> {
    /// Whether `bytes` begin like a pickle of protocol 2 or later, or with the magic number in protocol 1.
    pub fn is(bytes: &[u8]) -> bool {
        matches!(bytes, [0x80 | b'L', ..])
    }

    /// Reads the pickles and finds the storages.
    pub fn open(bytes: &'a [u8], heap: &mut Heap<'a>) -> Result<Self, Problem> {
        let mut at = 0;
        let mut next = |heap: &mut Heap<'a>| {
            let (value, length) = machine::run(&bytes[at..], heap)?;
            at += length;
            Ok(value)
        };
        match next(heap)? {
            Value::Magic => {}
            other => return Err(Problem::malformed("the number that a file of torch begins with", other.describe())),
        }
        match next(heap)? {
            Value::Integer(VERSION) => {}
            _ => return Err(Problem::malformed(format!("the version {VERSION} of torch's format"), "another")),
        }
        let machine = next(heap)?;
        check_byte_order(machine, heap)?;
        let object = next(heap)?;
        let Value::List(keys) = next(heap)? else { return Err(malformed("no list of storages")) };
        let storages = locate(bytes, at, keys, heap)?;
        Ok(Stream { object, storages })
    }

    /// The range of a storage's bytes.
    pub fn storage(&self, storage: &Storage) -> Result<Range<usize>, Problem> {
        let found = self.storages.binary_search_by(|place| place.storage.key.cmp(storage.key));
        match found {
            Ok(position) => Ok(self.storages[position].range.clone()),
            Err(_) => Err(malformed(format!("no storage `{}`", clip(storage.key)))),
        }
    }
}

fn check_byte_order(machine: Value, heap: &Heap) -> Result<(), Problem> {
    let Value::Dict(machine) = machine else { return Err(malformed("no description of the machine")) };
    let big = |pair: &[Value]| matches!(pair, [Value::Text("little_endian"), Value::Bool(false)]);
    if heap.parts(machine).chunks(2).any(big) {
        return Err(Problem::malformed("the byte order `little`", "`big`"));
    }
    Ok(())
}

/// Finds the storages, which follow in the order of `keys` from byte `at` to the end of the file.
fn locate<'a>(bytes: &[u8], mut at: usize, keys: u32, heap: &mut Heap<'a>) -> Result<Vec<Place<'a>>, Problem> {
    let described = described(heap)?;
    let count = heap.parts(keys).len();
    heap.spend(count * size_of::<Place>())?;
    let mut places = Vec::with_capacity(count);
    for key in heap.parts(keys) {
        let Value::Text(key) = key else { return Err(malformed("a storage whose key is no string")) };
        let position = described.binary_search_by(|storage| storage.key.cmp(key));
        let storage = position.map(|position| described[position]);
        let storage = storage.map_err(|_| malformed(format!("a storage `{}` that no tensor uses", clip(key))))?;
        let cut = || malformed(format!("the end of the file in the storage `{}`", clip(key)));
        let count = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
        if u64::try_from(storage.elements) != Ok(u64::from_le_bytes(*count)) {
            let expected = format!("{} elements in the storage `{}`", storage.elements, clip(key));
            return Err(Problem::malformed(expected, u64::from_le_bytes(*count).to_string()));
        }
        let start = at + size_of_val(count);
        let end = storage.bytes().and_then(|length| start.checked_add(length)).filter(|end| *end <= bytes.len());
        at = end.ok_or_else(cut)?;
        places.push(Place { storage, range: start..at });
    }
    if at != bytes.len() {
        return Err(malformed(format!("{} bytes after the last storage", bytes.len() - at)));
    }
    places.sort_unstable_by(|a, b| a.storage.key.cmp(b.storage.key));
    match places.windows(2).find(|pair| pair[0].storage.key == pair[1].storage.key) {
        Some(pair) => Err(malformed(format!("the storage `{}` twice", clip(pair[0].storage.key)))),
        None => Ok(places),
    }
}

/// Each storage of the pickle once, sorted by key. Error: a storage that is described in two ways.
fn described<'a>(heap: &mut Heap<'a>) -> Result<Vec<Storage<'a>>, Problem> {
    heap.spend(size_of_val(&heap.storages[..]))?;
    let mut described = heap.storages.clone();
    described.sort_unstable_by(|a, b| a.key.cmp(b.key));
    let differ = |pair: &&[Storage]| {
        let [a, b] = [pair[0], pair[1]];
        a.key == b.key && (a.dtype, a.elements) != (b.dtype, b.elements)
    };
    if let Some(pair) = described.windows(2).find(differ) {
        return Err(malformed(format!("the storage `{}` with two dtypes or sizes", clip(pair[0].key))));
    }
    described.dedup_by(|a, b| a.key == b.key);
    Ok(described)
}

fn malformed(found: impl Into<String>) -> Problem {
    Problem::malformed("a file of torch in the format before 1.6", found)
}
