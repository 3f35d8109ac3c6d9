//! The listing of a commit, [`Tree`]: its files with sizes and hashes, as the hub states them.
//!
//! A commit never changes, so its listing is kept, in the file and format of `huggingface_hub`
//! (`trees/<commit>.json`). With it a complete copy can be told from a partial one without a network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::files;

/// Version of the stored format. A listing of another version is ignored and requested again.
const FORMAT_VERSION: u32 = 1;

/// Every file of a commit by its path in the repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tree {
    format_version: u32,
    files: BTreeMap<String, TreeFile>,
}

impl Tree {
    /// From the entries that the hub's `tree` address returns. Folders are left out.
    pub fn from_entries(entries: impl IntoIterator<Item = Entry>) -> Self {
        let files = entries.into_iter().filter(|entry| entry.kind == "file");
        Self {
            format_version: FORMAT_VERSION,
            files: files.map(|entry| (entry.path.clone(), TreeFile::from(entry))).collect(),
        }
    }

    /// Reads what [`Tree::to_json`] wrote; `None` if it is anything else.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().filter(|tree: &Self| tree.format_version == FORMAT_VERSION)
    }

    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    pub fn get(&self, path: &str) -> Option<&TreeFile> {
        self.files.get(path)
    }

    /// The paths of all files whose file and folder names can be used on this system.
    pub fn plain_paths(&self) -> Vec<&str> {
        let is_plain = |path: &str| path.split('/').all(files::is_safe_name);
        self.files.keys().map(String::as_str).filter(|path| is_plain(path)).collect()
    }
}

/// One file: its size in bytes and its hashes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TreeFile {
    size: u64,
    blob_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xet_hash: Option<String>,
}

impl TreeFile {
    /// Size of the content in bytes (not of the LFS pointer).
    pub fn size(&self) -> u64 {
        self.lfs_size.unwrap_or(self.size)
    }

    /// The hash of the content; `None` if the hub stated something that is not a hash.
    pub fn digest(&self) -> Option<Digest> {
        let digest = Digest::from_blob_name(self.lfs_sha256.as_ref().unwrap_or(&self.blob_id))?;
        let is_lfs = self.lfs_sha256.is_some();
        (is_lfs == matches!(digest, Digest::Sha256(_))).then_some(digest)
    }
}

impl From<Entry> for TreeFile {
    fn from(entry: Entry) -> Self {
        Self {
            size: entry.size,
            blob_id: entry.oid,
            lfs_size: entry.lfs.as_ref().map(|lfs| lfs.size),
            lfs_sha256: entry.lfs.map(|lfs| lfs.oid),
            xet_hash: entry.xet_hash,
        }
    }
}

/// One entry of the hub's answer to `api/models/<id>/tree/<commit>`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<EntryLfs>,
    xet_hash: Option<String>,
}

#[derive(Debug, Deserialize)]
struct EntryLfs {
    oid: String,
    size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA1: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_listing_survives_the_cache() {
        let answer = format!(
            r#"[{{"type":"directory","oid":"{SHA1}","size":0,"path":"onnx"}},
                {{"type":"file","oid":"{SHA1}","size":6,"path":"config.json"}},
                {{"type":"file","oid":"{SHA1}","size":3,"path":"model.safetensors",
                  "lfs":{{"oid":"{SHA256}","size":3,"pointerSize":135}},"xetHash":"{SHA256}"}}]"#
        );
        let tree = Tree::from_entries(serde_json::from_str::<Vec<Entry>>(&answer).unwrap());
        assert_eq!(tree.plain_paths(), ["config.json", "model.safetensors"]);
        assert_eq!(tree.get("config.json").unwrap().digest().unwrap().name(), "git blob id");
        assert_eq!(tree.get("model.safetensors").unwrap().digest().unwrap().hex(), SHA256);
        assert_eq!(Tree::from_json(&tree.to_json().unwrap()), Some(tree));
    }

    #[test]
    fn a_hash_that_is_none_is_not_used() {
        for (oid, lfs) in [("../../etc", ""), (SHA256, ""), ("", ""), (SHA1, "nothex"), (SHA1, SHA1)] {
            let lfs = match lfs {
                "" => "null".to_string(),
                hex => format!(r#"{{"oid":"{hex}","size":1}}"#),
            };
            let entry = format!(r#"{{"type":"file","path":"x","size":1,"oid":"{oid}","lfs":{lfs}}}"#);
            let tree = Tree::from_entries([serde_json::from_str(&entry).unwrap()]);
            assert_eq!(tree.get("x").unwrap().digest(), None, "{entry}");
        }
    }
}
