//! Pictures and sound that a row names or holds: [`Medium`] is encoded bytes, never pixels or samples.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::file_bytes;
use crate::hex::hex;
use crate::location::Location;

/// The bytes of a picture or a sound, as they were when their row was prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// Where the bytes are.
    pub place: Place,
    /// SHA-256 of the bytes, as hexadecimal digits.
    pub sha256: String,
    /// Number of bytes.
    pub size: u64,
}

/// Where the bytes of a medium are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// In the row itself, with the name that the row gives them.
    Row {
        /// The bytes.
        bytes: Arc<[u8]>,
        /// What they are called; may be empty.
        name: String,
    },
}

impl Medium {
    /// The file at `path`, which the row at `location` names, and its bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn file(path: PathBuf, location: &Location) -> Result<(Self, Vec<u8>), DataError> {
        let bytes = file_bytes::read(&path).map_err(|why| DataError::Medium {
            location: location.clone(),
            name: path.display().to_string(),
            why,
        })?;
        Ok((Self { sha256: hex(&Sha256::digest(&bytes)), size: bytes.len() as u64, place: Place::File(path) }, bytes))
    }

    /// Bytes that stand in a row.
    pub(crate) fn in_row(bytes: Arc<[u8]>, name: &str) -> Self {
        let (sha256, size) = (hex(&Sha256::digest(&bytes)), bytes.len() as u64);
        Self { place: Place::Row { bytes, name: name.into() }, sha256, size }
    }

    /// Reads the bytes again. The row at `location` has them.
    ///
    /// # Errors
    /// The file cannot be read, or its bytes differ from those when its row was prepared.
    pub fn read(&self, location: &Location) -> Result<Cow<'_, [u8]>, DataError> {
        match &self.place {
            Place::Row { bytes, .. } => Ok(Cow::Borrowed(bytes)),
            Place::File(path) => file_bytes::read_again(path, self.size, &self.sha256)
                .map(Cow::Owned)
                .map_err(|why| self.error(location, why)),
        }
    }

    /// The error that something is wrong with it; `why` is a phrase about the file.
    pub(crate) fn error(&self, location: &Location, why: String) -> DataError {
        DataError::Medium { location: location.clone(), name: self.name(), why }
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        match &self.place {
            Place::File(path) => path.display().to_string(),
            Place::Row { name, .. } if name.is_empty() => "the bytes in the row".into(),
            Place::Row { name, .. } => name.clone(),
        }
    }
}
