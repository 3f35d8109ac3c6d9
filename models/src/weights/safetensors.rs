//! [`SafetensorsFile`]: one safetensors file, mapped into memory. Its header is checked on opening, its tensors are
//! read on request.
//!
//! The checks are stricter than those of the format's reference reader: duplicate names, unknown keys and unknown
//! dtypes are errors. The bytes of a tensor may have any alignment, so they are never reinterpreted in place. The
//! memory taken on opening is bounded by the header, and a header larger than 1 MiB must be at most a quarter of its
//! file; so it is bounded by the file.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use super::{
    header::{self, Entry, Header},
    mapping,
    view::{self, Data, TensorView},
};
use crate::error::ModelError;
use crate::wording::nearest;

/// Bytes before the header, which hold its length.
const PREFIX: usize = 8;
/// The longest header in bytes, as in the reference reader.
const LONGEST_HEADER: usize = 100_000_000;
/// Headers up to this size are read even if their file is small.
const SMALL_HEADER: usize = 1 << 20;

/// An open safetensors file with a valid header.
pub struct SafetensorsFile {
    path: PathBuf,
    map: Mmap,
    data_start: usize,
    metadata: BTreeMap<String, String>,
    /// Tensors in the order of their bytes.
    tensors: Vec<Entry>,
    /// Positions in `tensors`, sorted by name.
    by_name: Vec<u32>,
}

impl SafetensorsFile {
    /// Maps the file and checks its whole header. No tensor is read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        let path = path.as_ref().to_owned();
        let map = mapping::map(&path, "a safetensors file")?;
        let data_start = header_end(&path, &map)?;
        let Header { metadata, tensors } = header::parse(&path, &map[PREFIX..data_start], map.len() - data_start)?;
        let by_name = view::sort_by_name(&path, tensors.len(), |position| &tensors[position as usize].name)?;
        Ok(SafetensorsFile { path, map, data_start, metadata, tensors, by_name })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The strings under `__metadata__`; `format` is `pt` in files of transformers.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensors' names in the order of their bytes.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.iter().map(|entry| &*entry.name)
    }

    /// The tensors in the order of their bytes.
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

    /// Everything before the tensors' bytes: the length and the header, with its padding.
    pub(super) fn head(&self) -> &[u8] {
        &self.map[..self.data_start]
    }

    /// Releases the memory in which a tensor of this file was read.
    pub(super) fn release(&self, view: &TensorView<'_>) {
        mapping::release(&self.map, view.data.bytes());
    }

    fn view<'a>(&'a self, entry: &'a Entry) -> TensorView<'a> {
        TensorView {
            file: &self.path,
            name: &entry.name,
            dtype: entry.dtype,
            shape: &entry.shape,
            data: Data::RowMajor(&self.map[self.data_start..][entry.range.clone()]),
        }
    }
}

impl fmt::Debug for SafetensorsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SafetensorsFile").field("path", &self.path).field("tensors", &self.tensors.len()).finish()
    }
}

fn header_end(path: &Path, file: &[u8]) -> Result<usize, ModelError> {
    let Some((prefix, rest)) = file.split_first_chunk::<PREFIX>() else {
        return Err(ModelError::malformed(path, "a safetensors file", format!("a file of {} bytes", file.len())));
    };
    let announced = u64::from_le_bytes(*prefix);
    let limit = LONGEST_HEADER.min(SMALL_HEADER.max(file.len() / 4));
    match usize::try_from(announced) {
        Ok(length) if length <= rest.len() && length <= limit => Ok(PREFIX + length),
        Ok(length) if length <= rest.len() => Err(ModelError::malformed(
            path,
            format!("a header of at most {limit} bytes in a file of {}", file.len()),
            format!("{length} bytes"),
        )),
        _ => Err(ModelError::malformed(
            path,
            format!("a header within the file's {} bytes", file.len()),
            format!("one of {announced} bytes (no safetensors file, or cut off)"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::weights::Dtype;

    fn open(bytes: &[u8]) -> Result<SafetensorsFile, ModelError> {
        let mut file = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
        file.write_all(bytes).unwrap();
        // The mapping stays valid after the file's name is removed.
        SafetensorsFile::open(file.path())
    }

    fn bytes(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    const PYTHON: &[u8] = include_bytes!("fixtures/mixed.safetensors");

    #[test]
    fn a_file_of_the_python_library_reads_as_written() {
        let file = open(PYTHON).unwrap();
        assert_eq!(file.metadata()["format"], "pt");
        let weight = file.get("layers.0.weight").unwrap();
        assert_eq!((weight.dtype, weight.shape), (Dtype::F32, &[2, 3][..]));
        assert_eq!(weight.to_f32().unwrap(), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
        for half in ["layers.0.bias", "layers.10.bias"] {
            assert_eq!(file.get(half).unwrap().to_f32().unwrap(), [1.0, -2.0, 0.25], "{half}");
        }
        assert_eq!(file.get("scalar").unwrap().shape, [0usize; 0]);
        assert_eq!(file.get("empty").unwrap().to_f32().unwrap(), [0f32; 0]);
        assert!(file.get("steps").unwrap().to_f32().unwrap_err().to_string().contains("found I64"));
        assert!(file.get("layers.0.wieght").err().unwrap().to_string().contains("nearest: `layers.0.weight`"));
    }

    #[test]
    fn reads_what_the_reference_reader_reads() {
        let theirs = ::safetensors::SafeTensors::deserialize(PYTHON).unwrap();
        let ours = open(PYTHON).unwrap();
        assert_eq!(ours.names().len(), theirs.len());
        for (name, tensor) in theirs.iter() {
            let view = ours.get(name).unwrap();
            assert_eq!((&*view.bytes(), view.shape), (tensor.data(), tensor.shape()), "{name}");
            assert_eq!(view.dtype.name(), tensor.dtype().to_string(), "{name}");
        }
    }

    #[test]
    fn truncation_at_any_length_is_an_error() {
        for length in 0..PYTHON.len() {
            assert!(open(&PYTHON[..length]).is_err(), "accepted the first {length} bytes");
        }
        assert!(open(&[PYTHON, b"x"].concat()).is_err());
    }

    #[test]
    fn header_lengths_are_bounded_by_the_file() {
        for announced in [1 << 30, u64::MAX, u64::MAX - 7, PYTHON.len() as u64 - 7] {
            let mut file = PYTHON.to_vec();
            file[..8].copy_from_slice(&announced.to_le_bytes());
            assert!(open(&file).err().unwrap().to_string().contains("a header within the file"), "{announced}");
        }
        let padded = bytes(&format!("{{{}}}", " ".repeat(2 << 20)), &[]);
        assert!(open(&padded).err().unwrap().to_string().contains("a header of at most 1048576 bytes"));
    }

    #[test]
    fn a_name_twice_is_an_error_also_under_another_spelling() {
        let entry = |name: &str| format!(r#""{name}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
        let twice = bytes(&format!("{{{},{}}}", entry("w"), entry(r"\u0077")), &[]);
        assert!(open(&twice).err().unwrap().to_string().contains("tensor `w`: expected each name once"));
    }

    #[test]
    fn non_finite_weights_are_named_with_their_index() {
        let header = r#"{"w":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}"#;
        let file = open(&bytes(header, &[0x80, 0x3f, 0xc0, 0x7f, 0x80, 0x7f])).unwrap();
        let message = file.get("w").unwrap().check_finite().unwrap_err().to_string();
        assert!(message.contains("`w`: element 1 is NaN"), "{message}");
    }

    #[test]
    fn folders_and_missing_files_are_errors_with_their_path() {
        let folder = tempfile::tempdir().unwrap();
        let is_folder = SafetensorsFile::open(folder.path()).err().unwrap().to_string();
        assert!(is_folder.contains(&folder.path().display().to_string()), "{is_folder}");
        let missing = SafetensorsFile::open(folder.path().join("none.safetensors")).err().unwrap();
        assert!(missing.to_string().contains("none.safetensors"), "{missing}");
    }
}
