//! [`WeightsFile`]: one file of weights in either format.

use std::path::Path;

use super::{pickle::PickleFile, safetensors::SafetensorsFile, view::TensorView};
use crate::error::ModelError;
use crate::wording::nearest;

/// An open file of weights.
#[derive(Debug)]
pub enum WeightsFile {
    Safetensors(SafetensorsFile),
    Pickle(PickleFile),
}

impl WeightsFile {
    /// Opens a file: as one of PyTorch if its name ends in `.bin`, `.pt`, `.pth` or `.ckpt`, else as safetensors. No
    /// tensor is read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        const OF_PYTORCH: [&str; 4] = ["bin", "pt", "pth", "ckpt"];
        let path = path.as_ref();
        if path.extension().is_some_and(|extension| OF_PYTORCH.iter().any(|known| extension == *known)) {
            return PickleFile::open(path).map(WeightsFile::Pickle);
        }
        SafetensorsFile::open(path).map(WeightsFile::Safetensors)
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        match self {
            WeightsFile::Safetensors(file) => file.path(),
            WeightsFile::Pickle(file) => file.path(),
        }
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        match self {
            WeightsFile::Safetensors(file) => file.names().len(),
            WeightsFile::Pickle(file) => file.names().len(),
        }
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensors' names: for safetensors in the order of their bytes, for a pickle in the order of its dictionary.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|position| self.at(position as u32).name)
    }

    /// The tensors in the order of [`WeightsFile::names`].
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorView<'_>> {
        (0..self.len()).map(|position| self.at(position as u32))
    }

    /// The tensor of that name; its bytes are not read.
    ///
    /// # Errors
    /// There is none; the message names the nearest.
    pub fn get(&self, name: &str) -> Result<TensorView<'_>, ModelError> {
        self.position(name).map(|position| self.at(position)).ok_or_else(|| ModelError::NoSuchTensor {
            path: self.path().to_owned(),
            tensor: name.to_owned(),
            nearest: nearest(name, self.names()),
        })
    }

    pub(super) fn position(&self, name: &str) -> Option<u32> {
        match self {
            WeightsFile::Safetensors(file) => file.position(name),
            WeightsFile::Pickle(file) => file.position(name),
        }
    }

    pub(super) fn at(&self, position: u32) -> TensorView<'_> {
        match self {
            WeightsFile::Safetensors(file) => file.at(position),
            WeightsFile::Pickle(file) => file.at(position),
        }
    }
}
