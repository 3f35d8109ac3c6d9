//! Files of arrays: [`TensorFile`] is a file in the format of safetensors that a row names
//! (<https://github.com/huggingface/safetensors#format>).
//!
//! An example holds the path and the hash of the file, not its arrays. They are read when a batch is laid out, and a
//! file with other bytes is an error. Reading takes the memory of the file and of its arrays, and no more.
//! [`TensorFile::outline`] reads types, shapes and whole numbers only: real numbers are nearly all of a file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::array::{Array, ArrayOutline, ArrayValues, NamedArrays, NamedOutlines, OutlineValues};
use crate::error::DataError;
use crate::file_bytes::{self, CHANGED};
use crate::hex::hex;
use crate::location::Location;

/// A file of arrays, as it was when its row was prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorFile {
    /// The path of the file.
    pub path: PathBuf,
    /// SHA-256 of its bytes, as hexadecimal digits.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

impl TensorFile {
    /// Opens the file at `path` and checks that all its arrays can be read; the row at `location` names it.
    ///
    /// # Errors
    /// The file cannot be read, is no safetensors file, or holds arrays of other types.
    pub(crate) fn open(path: PathBuf, location: &Location) -> Result<Self, DataError> {
        let wrong = |why| error(location, &path, why);
        let bytes = file_bytes::read(&path).map_err(wrong)?;
        arrays(&bytes).map_err(wrong)?;
        Ok(Self { sha256: hex(&Sha256::digest(&bytes)), size: bytes.len() as u64, path })
    }

    /// Reads its arrays: F32, F16 and BF16 as f32, I64 and I32 as i64. The row at `location` names it.
    ///
    /// # Errors
    /// The file cannot be read, or its bytes differ from those when its row was prepared.
    pub fn read(&self, location: &Location) -> Result<NamedArrays, DataError> {
        let wrong = |why| error(location, &self.path, why);
        let bytes = file_bytes::read_again(&self.path, self.size, &self.sha256).map_err(wrong)?;
        arrays(&bytes).map_err(wrong)
    }

    /// Reads the types and shapes of its arrays and the values of whole numbers, without real numbers and without the
    /// hash. The row at `location` names the file.
    ///
    /// # Errors
    /// The file cannot be read, has another size than when its row was prepared, or is no safetensors file of such
    /// arrays.
    pub fn outline(&self, location: &Location) -> Result<NamedOutlines, DataError> {
        outline(&self.path, self.size).map_err(|why| error(location, &self.path, why))
    }
}

fn error(location: &Location, path: &Path, why: String) -> DataError {
    DataError::Tensors { location: location.clone(), path: path.to_path_buf(), why }
}

/// The outlines of the arrays in the file at `path`, which has `size` bytes.
fn outline(path: &Path, size: u64) -> Result<NamedOutlines, String> {
    let said = |problem: std::io::Error| format!("cannot be read: {problem}");
    let unlike = |problem: String| format!("is no safetensors file: {problem}");
    let metadata = std::fs::metadata(path).map_err(said)?;
    if !metadata.is_file() || metadata.len() != size {
        return Err(CHANGED.into());
    }
    let mut file = File::open(path).map_err(said)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(said)?;
    let length = u64::from_le_bytes(length);
    let start =
        length.checked_add(8).filter(|start| *start <= size).ok_or_else(|| unlike("its header is cut".into()))?;
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(said)?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|problem| unlike(problem.to_string()))?;
    let mut found = NamedOutlines::new();
    for (name, info) in header.tensors() {
        let values = match info.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => OutlineValues::F32,
            dtype => {
                let (begin, end) = info.data_offsets;
                let count = end.checked_sub(begin).filter(|_| end as u64 <= size - start);
                let mut bytes = vec![0; count.ok_or_else(|| unlike(format!("`{name}` is cut")))?];
                file.seek(SeekFrom::Start(start + begin as u64)).map_err(said)?;
                file.read_exact(&mut bytes).map_err(said)?;
                match values(dtype, &bytes) {
                    Some(ArrayValues::I64(values)) => OutlineValues::I64(values),
                    Some(ArrayValues::F32(_)) | None => return Err(other_type(&name, dtype)),
                }
            }
        };
        found.insert(name, ArrayOutline { shape: info.shape.clone(), values });
    }
    Ok(found)
}

fn other_type(name: &str, dtype: Dtype) -> String {
    format!("`{name}` is {dtype:?}; tensors of a row are F32, F16, BF16, I64 or I32")
}

/// The arrays in the bytes of a file.
fn arrays(bytes: &[u8]) -> Result<NamedArrays, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|problem| format!("is no safetensors file: {problem}"))?;
    if file.is_empty() {
        return Err("holds no tensor".into());
    }
    let named = file.iter().map(|(name, view)| {
        let values = values(view.dtype(), view.data()).ok_or_else(|| other_type(name, view.dtype()))?;
        Ok((name.to_string(), Array { shape: view.shape().to_vec(), values }))
    });
    named.collect()
}

/// The values of an array of `dtype`; absent for a type that rows cannot have.
fn values(dtype: Dtype, bytes: &[u8]) -> Option<ArrayValues> {
    fn read<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|bytes| value(*bytes)).collect()
    }
    let values = match dtype {
        Dtype::F32 => ArrayValues::F32(read(bytes, f32::from_le_bytes)),
        Dtype::F16 => ArrayValues::F32(read(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
        Dtype::BF16 => ArrayValues::F32(read(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        Dtype::I64 => ArrayValues::I64(read(bytes, i64::from_le_bytes)),
        Dtype::I32 => ArrayValues::I64(read(bytes, |bytes| i64::from(i32::from_le_bytes(bytes)))),
        _ => return None,
    };
    Some(values)
}

#[cfg(test)]
mod tests;
