//! Reads and writes the cache folder of one model or dataset, [`ModelCache`], which is shared with the Python tools.
//!
//! ```text
//! models--owner--name/        (datasets--owner--name/)
//!   blobs/<hash>              contents, named by their hash; <hash>.incomplete while being fetched
//!   snapshots/<commit>/<file> links to blobs: the model folder
//!   refs/<revision>           the commit of a branch or tag when its files were last complete
//!   trees/<commit>.json       the listing of a commit
//!   checked/<hash>            size and time of a blob whose hash was verified (written by firebrand only)
//! .locks/models--owner--name/<hash>.lock
//! ```
//! A blob gets its name only after its hash was verified. Other programs write here too, so a blob is hashed
//! again before its first use and whenever its size or time changed; a blob with a wrong hash is not used.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use firebrand_files::{Durability, temporary_name, write_file};
use hf_hub::{Cache, CacheRepo, Repo};

use crate::digest::Digest;
use crate::error::HubError;
use crate::id::{HubId, is_commit};
use crate::tree::{Tree, TreeFile};

/// The state of a file in the cache.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The file is there and its hash is right.
    Good,
    Absent,
    /// The file is there with other content. The reason completes a sentence.
    Damaged(String),
}

/// The part of the cache that belongs to one model or dataset.
pub(crate) struct ModelCache {
    layout: CacheRepo,
    root: PathBuf,
    locks: PathBuf,
}

impl ModelCache {
    pub fn new(cache: &Path, id: &HubId) -> Self {
        let repo = Repo::new(id.repo(), id.repo_type());
        Self {
            root: cache.join(repo.folder_name()),
            locks: cache.join(".locks").join(repo.folder_name()),
            layout: Cache::new(cache.to_path_buf()).repo(repo),
        }
    }

    /// The snapshot folder of a commit, whether or not it exists.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.layout.blob_path(digest.hex())
    }

    /// The commit that the cache last recorded for `revision`.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_string());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_string()).filter(|commit| is_commit(commit))
    }

    /// Records that `revision` is `commit`. Writes nothing if that is recorded already, so a read-only cache
    /// works.
    pub fn remember_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        match self.commit(revision).as_deref() == Some(commit) {
            true => Ok(()),
            false => write_whole(&self.root.join("refs").join(revision), commit.as_bytes()),
        }
    }

    pub fn tree(&self, commit: &str) -> Option<Tree> {
        Tree::from_json(&fs::read_to_string(self.tree_path(commit)).ok()?)
    }

    pub fn remember_tree(&self, commit: &str, tree: &Tree) -> Result<(), HubError> {
        let path = self.tree_path(commit);
        let json = tree.to_json().map_err(io::Error::other).map_err(HubError::io("write", &path))?;
        write_whole(&path, json.as_bytes())
    }

    /// The state of the blob of `file`.
    pub fn blob_state(&self, file: &TreeFile, digest: &Digest) -> Result<State, HubError> {
        self.state(&self.blob(digest), digest, Some(file.size()))
    }

    /// The state of `name` in the snapshot of `commit`. Without a listing (`file`), a link's content is
    /// compared with the name of the blob it points to.
    pub fn snapshot_state(&self, commit: &str, name: &str, file: Option<&TreeFile>) -> Result<State, HubError> {
        let path = self.snapshot(commit).join(name);
        let digest = match file {
            Some(file) => file.digest(),
            None => fs::read_link(&path)
                .ok()
                .and_then(|target| target.file_name().and_then(|name| name.to_str()).and_then(Digest::from_blob_name)),
        };
        match digest {
            Some(digest) => self.state(&path, &digest, file.map(TreeFile::size)),
            None if path.is_file() => Ok(State::Good),
            None => Ok(State::Absent),
        }
    }

    fn state(&self, path: &Path, digest: &Digest, size: Option<u64>) -> Result<State, HubError> {
        // A link whose blob is missing counts as absent.
        let Ok(metadata) = fs::metadata(path) else {
            return Ok(State::Absent);
        };
        let (found, expected) = (metadata.len(), size.unwrap_or(metadata.len()));
        if found != expected {
            return Ok(State::Damaged(format!("it has {found} bytes in place of {expected}")));
        }
        let stamp = stamp(&metadata);
        if stamp.is_some() && fs::read_to_string(self.stamp_path(digest)).ok() == stamp {
            return Ok(State::Good);
        }
        let hash = digest.of_file(path, found).map_err(HubError::io("read", path))?;
        if hash != digest.hex() {
            let (kind, expected) = (digest.name(), digest.hex());
            return Ok(State::Damaged(format!("its {kind} is {hash} in place of {expected}")));
        }
        self.remember_good(path, digest);
        Ok(State::Good)
    }

    /// Records that the content at `path` has this hash, so that it is not hashed again. This only saves time:
    /// where it cannot be written, the file is hashed each time.
    pub fn remember_good(&self, path: &Path, digest: &Digest) {
        if let Some(stamp) = fs::metadata(path).ok().as_ref().and_then(stamp) {
            let _ = write_whole(&self.stamp_path(digest), stamp.as_bytes());
        }
    }

    /// Links `name` in the snapshot of `commit` to the blob of `digest`.
    pub fn link(&self, commit: &str, name: &str, digest: &Digest) -> Result<(), HubError> {
        let pointer = self.snapshot(commit).join(name);
        create_parent(&pointer)?;
        // Made in another folder, so that a program that lists the snapshot sees finished names only.
        let staged = self.locks.join(temporary_name(digest.hex()));
        create_parent(&staged)?;
        let _ = fs::remove_file(&staged);
        let blob = self.blob(digest);
        // One level up for each folder in `name`, and two for the snapshot's own.
        let up = "../".repeat(2 + name.matches('/').count());
        link_file(&Path::new(&up).join("blobs").join(digest.hex()), &blob, &staged)
            .and_then(|()| fs::rename(&staged, &pointer))
            .map_err(HubError::io("create", &pointer))
    }

    /// Waits until no other process fetches this blob. The lock is held until the returned file is dropped.
    pub fn lock(&self, digest: &Digest, name: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{}.lock", digest.hex()));
        create_parent(&path)?;
        let file = File::options().create(true).append(true).open(&path).map_err(HubError::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                eprintln!("waiting for another program that is fetching {name}")
            }
            // Some network file systems have no locks. The hash check at the end still protects the file.
            Err(TryLockError::Error(_)) => return Ok(file),
        }
        file.lock().map_err(HubError::io("lock", &path))?;
        Ok(file)
    }

    fn stamp_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("checked").join(digest.hex())
    }

    fn tree_path(&self, commit: &str) -> PathBuf {
        self.root.join("trees").join(format!("{commit}.json"))
    }
}

/// Size and modification time: a text that changes when the content does, as far as the file system tells.
fn stamp(metadata: &Metadata) -> Option<String> {
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{} {}", metadata.len(), modified.as_nanos()))
}

/// Writes a small file that readers see complete or not at all. It is not synced: a ref, listing or stamp
/// damaged by a power cut is recognised, and costs one request or one hash.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    create_parent(path)?;
    let failed = |error| HubError::io("write", path)(error);
    write_file(path, Durability::Cached, failed, |file| file.write_all(bytes).map_err(failed))
}

/// Creates the parent folders of `path`.
pub(crate) fn create_parent(path: &Path) -> Result<(), HubError> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(HubError::io("create the folder", parent)),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn link_file(relative: &Path, _absolute: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, link)
}

/// On Windows most accounts may not create symbolic links: a hard link is tried instead, then a copy.
#[cfg(not(unix))]
fn link_file(_relative: &Path, absolute: &Path, link: &Path) -> io::Result<()> {
    fs::hard_link(absolute, link).or_else(|_| fs::copy(absolute, link).map(|_| ()))
}
