//! Files of arrays: [`TensorFile`] is a file in the format of safetensors that a row names
//! (<https://github.com/huggingface/safetensors#format>).
//!
//! An example holds the path and the hash of the file, not its arrays. They are read when a batch is laid out, and a
//! file with other bytes is an error. Reading takes the memory of the file and of its arrays, and no more.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::array::{Array, ArrayValues, NamedArrays};
use crate::error::DataError;
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
        let bytes = bytes(&path).map_err(wrong)?;
        arrays(&bytes).map_err(wrong)?;
        Ok(Self { sha256: hex(&Sha256::digest(&bytes)), size: bytes.len() as u64, path })
    }

    /// Reads its arrays: F32, F16 and BF16 as f32, I64 and I32 as i64. The row at `location` names it.
    ///
    /// # Errors
    /// The file cannot be read, or its bytes differ from those when its row was prepared.
    pub fn read(&self, location: &Location) -> Result<NamedArrays, DataError> {
        let wrong = |why| error(location, &self.path, why);
        let bytes = bytes(&self.path).map_err(wrong)?;
        if (bytes.len() as u64, hex(&Sha256::digest(&bytes))) != (self.size, self.sha256.clone()) {
            return Err(wrong(
                "the file is another than when its row was prepared; start again, and the row is prepared anew".into(),
            ));
        }
        arrays(&bytes).map_err(wrong)
    }
}

fn error(location: &Location, path: &Path, why: String) -> DataError {
    DataError::Tensors { location: location.clone(), path: path.to_path_buf(), why }
}

/// All bytes of a file, which must not grow while it is read.
fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let said = |problem: std::io::Error| format!("cannot be read: {problem}");
    let metadata = std::fs::metadata(path).map_err(said)?;
    // Opening a pipe would wait until another program writes to it.
    if !metadata.is_file() {
        return Err("is no file".into());
    }
    let mut bytes = Vec::new();
    let size = usize::try_from(metadata.len()).map_err(|_| "is too large".to_string())?;
    bytes.try_reserve_exact(size).map_err(|problem| format!("cannot be read: {problem}"))?;
    let mut file = File::open(path).map_err(said)?.take(metadata.len());
    file.read_to_end(&mut bytes).map_err(said)?;
    Ok(bytes)
}

/// The arrays in the bytes of a file.
fn arrays(bytes: &[u8]) -> Result<NamedArrays, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|problem| format!("is no safetensors file: {problem}"))?;
    if file.is_empty() {
        return Err("holds no tensor".into());
    }
    let named = file.iter().map(|(name, view)| {
        let values = values(view.dtype(), view.data()).ok_or_else(|| {
            format!("`{name}` is {:?}; tensors of a row are F32, F16, BF16, I64 or I32", view.dtype())
        })?;
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
