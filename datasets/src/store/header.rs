//! The header of a store: [`Header`] holds what the store is, the lengths of its parts, and a hash of its index. The
//! examples themselves are hashed one by one, in the index.
//!
//! ```text
//! header  256 bytes    examples    entries, 128 bytes each    meta, JSON
//! ```

use sha2::{Digest, Sha256};

use super::bytes::Cursor;
use super::entry::ENTRY;
use crate::kind::RowKind;

/// Bytes of the header.
pub(super) const HEADER: usize = 256;
const MAGIC: &[u8; 8] = b"fb-rows\0";

/// Raised when the layout or the meaning of prepared rows changes: older stores are then made again.
pub(crate) const STORE_VERSION: u32 = 6;

/// Kinds by their numbers in a header.
const KINDS: [RowKind; 2] = [RowKind::Tokens, RowKind::Tensors];

/// The header of a finished store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The kind of all its examples.
    pub kind: RowKind,
    /// Number of examples.
    pub examples: u64,
    /// Bytes of all examples.
    pub data: u64,
    /// Bytes of the meta data.
    pub meta: u64,
    /// SHA-256 of entries and meta data.
    pub index_hash: [u8; 32],
}

impl Header {
    pub fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(STORE_VERSION.to_le_bytes());
        bytes.extend((ENTRY as u32).to_le_bytes());
        let kind = KINDS.iter().position(|known| *known == self.kind).unwrap_or(0);
        bytes.extend((kind as u32).to_le_bytes());
        for number in [self.examples, self.data, self.meta] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.index_hash);
        let own: [u8; 32] = Sha256::digest(&bytes).into();
        bytes.extend(own);
        let mut header = [0; HEADER];
        header[..bytes.len()].copy_from_slice(&bytes);
        header
    }

    /// Reads the header of a file of `size` bytes; the error says why it is none.
    pub fn from_bytes(bytes: &[u8], size: u64) -> Result<Self, &'static str> {
        let short = "it is too short";
        let mut cursor = Cursor(bytes);
        if cursor.array::<8>().ok_or(short)? != *MAGIC {
            return Err("it does not begin as one");
        }
        let layout = (cursor.u32().ok_or(short)?, cursor.u32().ok_or(short)?);
        if layout != (STORE_VERSION, ENTRY as u32) {
            return Err("it was written by another version");
        }
        let kind = KINDS.get(cursor.u32().ok_or(short)? as usize).copied().ok_or("its header is damaged")?;
        let mut number = || cursor.u64().ok_or(short);
        let (examples, data, meta) = (number()?, number()?, number()?);
        let index_hash = cursor.array().ok_or(short)?;
        let header = Self { kind, examples, data, meta, index_hash };
        if bytes.get(..HEADER) != Some(&header.to_bytes()[..]) {
            return Err("its header is damaged");
        }
        let entries = examples.checked_mul(ENTRY as u64);
        let expected =
            entries.and_then(|entries| (HEADER as u64).checked_add(entries)?.checked_add(data)?.checked_add(meta));
        match expected == Some(size) {
            true => Ok(header),
            false => Err("its parts are not as long as its header says"),
        }
    }
}
