//! The hashes by which the hub identifies a file, [`Digest`], and how they are computed.
//!
//! Large files (LFS, Xet) are identified by the sha256 of their content, all others by git's blob id, the
//! sha1 of `blob <size>\0` and the content. The hash is also the name of the blob in the cache, so a cached
//! file can be checked without a network.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Size of the pieces in which files are read, in bytes.
pub(crate) const PIECE: usize = 256 * 1024;

/// The expected hash of a file, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha256(String),
    GitBlob(String),
}

impl Digest {
    /// From the name of a blob: 64 digits are a sha256, 40 a git blob id.
    pub fn from_blob_name(name: &str) -> Option<Self> {
        match (is_lower_hex(name), name.len()) {
            (true, 64) => Some(Self::Sha256(name.to_string())),
            (true, 40) => Some(Self::GitBlob(name.to_string())),
            _ => None,
        }
    }

    /// The hexadecimal digits, which are also the name of the blob.
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }

    /// The name of the hash in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitBlob(_) => "git blob id",
        }
    }

    /// A hasher for content of `size` bytes.
    pub fn hasher(&self, size: u64) -> Hasher {
        match self {
            Self::Sha256(_) => Hasher::Sha256(Sha256::new()),
            Self::GitBlob(_) => Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    /// Computes the hash of the file at `path`, which has `size` bytes.
    pub fn of_file(&self, path: &Path, size: u64) -> io::Result<String> {
        let mut hasher = self.hasher(size);
        let mut file = File::open(path)?;
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(hasher.hex()),
                read => hasher.update(&piece[..read]),
            }
        }
    }
}

/// A running hash computation.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::GitBlob(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all bytes given so far.
    pub fn hex(self) -> String {
        match self {
            Self::Sha256(hasher) => to_hex(&hasher.finalize()),
            Self::GitBlob(hasher) => to_hex(&hasher.finalize()),
        }
    }
}

/// Whether `text` is made of lower-case hexadecimal digits only.
pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_blob_id_matches_git() {
        // `printf 'hello\n' | git hash-object --stdin`
        let digest = Digest::from_blob_name("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let mut hasher = digest.hasher(6);
        hasher.update(b"hello\n");
        assert_eq!(hasher.hex(), digest.hex());
    }

    #[test]
    fn sha256_matches_the_standard() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let mut hasher = Digest::from_blob_name(hex).unwrap().hasher(3);
        hasher.update(b"abc");
        assert_eq!(hasher.hex(), hex);
    }
}
