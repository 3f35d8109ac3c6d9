//! PyTorch files: [`PickleFile`] is a file written by `torch.save`. It is mapped into memory, its pickle is read on
//! opening, and its tensors stay in place.
//!
//! A pickle is a program, and Python would run any function it names. Here a small machine reads it that knows only
//! what a state dict needs and runs nothing: a file that asks for anything else is refused by the name of that.
//! Accepted is a dictionary of names and tensors, as `torch.save(model.state_dict(), path)` writes it, but not one
//! inside another.
//!
//! ```text
//! archive.rs  zip archives, torch 1.6 and later
//! stream.rs   the format before torch 1.6
//! machine.rs  the instructions of pickles
//! calls.rs    the functions that make tensors
//! values.rs   values of the machine, within a memory limit
//! ```
//! Tensors are views of storages: a part of one, transposed, or one of several that share a storage, as tied weights
//! do. A view with more elements than its storage (an expanded tensor, with strides of zero) is refused: a file of a
//! few bytes could state any size. Opening allocates no more than the file's size and 4 MiB. References: Python's
//! `pickletools`, torch's `torch/serialization.py`.

mod archive;
mod calls;
mod machine;
mod stream;
#[cfg(test)]
mod tests;
mod values;

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use self::{
    archive::Archive,
    stream::Stream,
    values::{Heap, Problem, Storage, Tensor, Value},
};
use super::{
    dtype::Dtype,
    header::{LONGEST_NAME, MOST_DIMENSIONS},
    mapping,
    view::{self, Data, TensorView},
};
use crate::error::ModelError;
use crate::wording::{clip, nearest};

/// An open PyTorch file whose pickle is a state dict.
pub struct PickleFile {
    path: PathBuf,
    map: Mmap,
    /// Tensors in the order of the dictionary.
    tensors: Vec<Entry>,
    /// Positions in `tensors`, sorted by name.
    by_name: Vec<u32>,
}

struct Entry {
    name: Box<str>,
    dtype: Dtype,
    shape: Box<[usize]>,
    /// The range of its bytes in the file.
    range: Range<usize>,
    /// Strides in elements; absent where the bytes are row-major.
    strides: Option<Box<[usize]>>,
}

impl PickleFile {
    /// Maps the file and reads its pickle, executing nothing. No tensor is read.
    ///
    /// # Errors
    /// A file that is damaged, holds more than tensors, was written on a big-endian machine, or has tensors of a dtype
    /// that cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref().to_owned();
        let map = mapping::map(&path, "a PyTorch file")?;
        let tensors = read(&map).map_err(|problem| problem.at(&path))?;
        let by_name = view::sort_by_name(&path, tensors.len(), |position| &tensors[position as usize].name)?;
        Ok(PickleFile { path, map, tensors, by_name })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names in the order of the dictionary.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.iter().map(|entry| &*entry.name)
    }

    /// The tensors in the order of the dictionary.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        self.tensors.iter().map(|entry| self.view(entry))
    }

    /// The tensor of that name; its bytes are not read.
    pub fn get(&self, name: &str) -> Result<TensorView<'_>, ModelError> {
        self.position(name).map(|position| self.at(position)).ok_or_else(|| ModelError::NoSuchTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
            nearest: nearest(name, self.names()),
        })
    }

    pub(super) fn position(&self, name: &str) -> Option<u32> {
        let found = self.by_name.binary_search_by(|&position| (*self.tensors[position as usize].name).cmp(name));
        found.ok().map(|rank| self.by_name[rank])
    }

    pub(super) fn at(&self, position: u32) -> TensorView<'_> {
        self.view(&self.tensors[position as usize])
    }

    /// Releases the memory in which a tensor of this file was read.
    pub(super) fn release(&self, view: &TensorView<'_>) {
        mapping::release(&self.map, view.data.bytes());
    }

    fn view<'a>(&'a self, entry: &'a Entry) -> TensorView<'a> {
        let bytes = &self.map[entry.range.clone()];
        let data = match &entry.strides {
            None => Data::RowMajor(bytes),
            Some(strides) => Data::Strided { bytes, strides },
        };
        TensorView { file: &self.path, name: &entry.name, dtype: entry.dtype, shape: &entry.shape, data }
    }
}

impl fmt::Debug for PickleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickleFile").field("path", &self.path).field("tensors", &self.tensors.len()).finish()
    }
}

enum Storages<'a> {
    Archive(Archive<'a>),
    Stream(Stream<'a>),
}

fn read(file: &[u8]) -> Result<Vec<Entry>, Problem> {
    /// Values take more memory than the bytes that describe them, and a file of many small tensors consists mostly of
    /// these.
    const SMALL_FILE: usize = 4 << 20;
    let mut heap = Heap::new(file.len().saturating_add(SMALL_FILE));
    let (object, storages) = if Archive::is(file) {
        let archive = Archive::open(file, &mut heap)?;
        (machine::run(archive.pickle()?, &mut heap)?.0, Storages::Archive(archive))
    } else if Stream::is(file) {
        let stream = Stream::open(file, &mut heap)?;
        (stream.object, Storages::Stream(stream))
    } else {
        return Err(Problem::malformed("a PyTorch file (a zip archive or pickles)", "something else"));
    };
    let Value::Dict(dict) = object else {
        return Err(Problem::NotTensorsOnly(format!("holds {}", object.describe())));
    };
    let items = heap.parts(dict).len() / 2;
    heap.spend(items * (size_of::<Entry>() + size_of::<u32>()))?;
    let mut entries = Vec::with_capacity(items);
    for item in 0..items {
        let [name, value] = [0, 1].map(|part| heap.parts(dict)[2 * item + part]);
        match (name, value) {
            (Value::Text(name), Value::Tensor(tensor)) => entries.push(resolve(name, tensor, &storages, &mut heap)?),
            (Value::Text(name), other) => {
                return Err(Problem::NotTensorsOnly(format!("`{}` is {}", clip(name), other.describe())));
            }
            (other, _) => return Err(Problem::NotTensorsOnly(format!("has {} for a name", other.describe()))),
        }
    }
    Ok(entries)
}

/// Checks a tensor of the dictionary and finds its place in the file.
fn resolve(name: &str, tensor: u32, storages: &Storages, heap: &mut Heap) -> Result<Entry, Problem> {
    let Tensor { storage, dtype, offset, shape, strides } = heap.tensors[tensor as usize];
    let wrong = |(expected, found): (String, String)| Problem::tensor(name, expected, found);
    if name.len() > LONGEST_NAME {
        return Err(wrong((format!("a name of at most {LONGEST_NAME} bytes"), format!("{} bytes", name.len()))));
    }
    let shape = sizes(heap.parts(shape)).map_err(wrong)?;
    let strides = sizes(heap.parts(strides)).map_err(wrong)?;
    heap.spend(name.len() + size_of_val(&*shape) + size_of_val(&*strides))?;
    let storage: &Storage = &heap.storages[storage as usize];
    let bytes = match storages {
        Storages::Archive(archive) => archive.storage(storage)?,
        Storages::Stream(stream) => stream.storage(storage)?,
    };
    let available = bytes.len() / dtype.size();
    let Layout { elements, row_major } = layout(&shape, &strides, offset, available).map_err(wrong)?;
    let [start, end] = [elements.start, elements.end].map(|element| bytes.start + element * dtype.size());
    let strides = (!row_major).then_some(strides);
    Ok(Entry { name: name.into(), dtype, shape, range: start..end, strides })
}

/// What was expected and what was found, without the tensor's name.
type Mismatch = (String, String);

fn sizes(values: &[Value]) -> Result<Box<[usize]>, Mismatch> {
    if values.len() > MOST_DIMENSIONS {
        return Err((format!("at most {MOST_DIMENSIONS} dimensions"), values.len().to_string()));
    }
    let size = |value: &Value| match value {
        Value::Integer(size) => {
            usize::try_from(*size).map_err(|_| ("sizes and strides from 0".into(), size.to_string()))
        }
        other => Err(("sizes and strides in numbers".into(), other.describe().into())),
    };
    values.iter().map(size).collect()
}

struct Layout {
    /// The range of storage elements from the first to the last that the tensor uses.
    elements: Range<usize>,
    row_major: bool,
}

/// The range and order of a view's elements in a storage of `available` elements.
fn layout(shape: &[usize], strides: &[usize], offset: i64, available: usize) -> Result<Layout, Mismatch> {
    if shape.len() != strides.len() {
        return Err((format!("{} strides", shape.len()), strides.len().to_string()));
    }
    let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
    // A zero in any dimension makes the tensor empty, even where the product of the others would overflow.
    if shape.contains(&0) {
        return match count {
            Some(_) => Ok(Layout { elements: 0..0, row_major: true }),
            None => Err(("a shape whose size can be counted".into(), format!("{shape:?}"))),
        };
    }
    let beyond =
        || (format!("elements of a storage of {available}"), format!("{shape:?} from {offset} by {strides:?}"));
    if count.is_none_or(|count| count > available) {
        return Err(beyond());
    }
    let first = usize::try_from(offset).map_err(|_| beyond())?;
    let after = |last: usize, (dim, stride): (&usize, &usize)| last.checked_add((dim - 1).checked_mul(*stride)?);
    let last = shape.iter().zip(strides).try_fold(first, after);
    let last = last.filter(|last| *last < available).ok_or_else(beyond)?;
    let mut row = 1;
    let mut row_major = true;
    for (&dim, &stride) in shape.iter().zip(strides).rev() {
        row_major &= dim == 1 || stride == row;
        row *= dim;
    }
    Ok(Layout { elements: first..last + 1, row_major })
}
