//! The bytes of an example of tensors: [`encode`] writes the file's path, size and hash. The arrays stay in the file.
//!
//! The path is relative to the folder of the row's own file, so the same data in another folder has the same prepared
//! rows.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::bytes::{Cursor, put};
use crate::tensor_file::TensorFile;

/// Bytes of the checksum of the other bytes. An example's own hash covers only the content of its file, so without a
/// checksum a damaged path would lead to a file that does not exist.
const CHECK: usize = 8;

/// The bytes of an example whose file has a path relative to `folder`.
pub(super) fn encode(file: &TensorFile, folder: &Path) -> Vec<u8> {
    let name = file.path.strip_prefix(folder).unwrap_or(&file.path).to_string_lossy();
    let mut bytes = Vec::new();
    put(&mut bytes, file.size);
    for text in [file.sha256.as_str(), &name] {
        put(&mut bytes, text.len() as u64);
        bytes.extend(text.as_bytes());
    }
    let check = Sha256::digest(&bytes);
    bytes.extend(&check[..CHECK]);
    bytes
}

/// The example in these bytes; `None` when they hold none.
pub(super) fn decode(bytes: &[u8], folder: &Path) -> Option<TensorFile> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK)?)?;
    if Sha256::digest(body)[..CHECK] != *check {
        return None;
    }
    let mut cursor = Cursor(body);
    let size = cursor.number()?;
    let mut text = || {
        let length = cursor.count(cursor.0.len())?;
        String::from_utf8(cursor.take(length)?.to_vec()).ok()
    };
    let (sha256, name) = (text()?, text()?);
    cursor.0.is_empty().then(|| TensorFile { path: folder.join(name), sha256, size })
}
