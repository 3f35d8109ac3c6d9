//! The cache folder of one model or dataset, shared with the Python tools.
//!
//! ```text
//! models--owner--name/        (datasets--owner--name/)
//!   blobs/<hash>              contents, named by their hash; <hash>.incomplete while being fetched
//!   snapshots/<commit>/<file> links into blobs: the model folder
//!   refs/<revision>           the commit a branch or tag was when last seen whole
//!   trees/<commit>.json       the listing of a commit
//!   checked/<hash>            size and time of a blob whose hash was found right (ours alone)
//! .locks/models--owner--name/<hash>.lock
//! ```
//! A blob gets its name only once its hash is right. Since others write here too, a blob is hashed
//! again before its first use and whenever its size or time changed, and one that is wrong is not used.

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

/// What the cache holds of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The right bytes.
    Good,
    Absent,
    /// Other bytes; the reason ends a sentence.
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

    /// The model folder of a commit, whether or not it is there.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.layout.pointer_path(commit)
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.layout.blob_path(digest.hex())
    }

    /// The commit that `revision` was when it was last seen.
    pub fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_string());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_string()).filter(|commit| is_commit(commit))
    }

    /// Remembers that `revision` is `commit`. Nothing is written if it is known already, so a cache
    /// that may only be read works.
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

    /// What is there of the blob of `file`.
    pub fn blob_state(&self, file: &TreeFile, digest: &Digest) -> Result<State, HubError> {
        self.state(&self.blob(digest), digest, Some(file.size()))
    }

    /// What is there of `name` in the snapshot of `commit`. Without a listing (`file`) the content is
    /// held against the blob name that the snapshot links to, where it is a link.
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
        // A link to a blob that is gone counts as absent, like no link.
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

    /// Notes that the content at `path` has this hash, so that it need not be computed again. Only saves
    /// time; where it cannot be written the file is hashed each time.
    pub fn remember_good(&self, path: &Path, digest: &Digest) {
        if let Some(stamp) = fs::metadata(path).ok().as_ref().and_then(stamp) {
            let _ = write_whole(&self.stamp_path(digest), stamp.as_bytes());
        }
    }

    /// Makes `name` in the snapshot of `commit` mean the blob of `digest`.
    pub fn link(&self, commit: &str, name: &str, digest: &Digest) -> Result<(), HubError> {
        let pointer = self.snapshot(commit).join(name);
        create_parent(&pointer)?;
        // Made elsewhere, so that whoever lists the snapshot meanwhile sees finished names only.
        let staged = self.locks.join(temporary_name(digest.hex()));
        create_parent(&staged)?;
        let _ = fs::remove_file(&staged);
        let blob = self.blob(digest);
        // One up for each folder that the name goes down, and two for the snapshot's.
        let up = "../".repeat(2 + name.matches('/').count());
        link_file(&Path::new(&up).join("blobs").join(digest.hex()), &blob, &staged)
            .and_then(|()| fs::rename(&staged, &pointer))
            .map_err(HubError::io("create", &pointer))
    }

    /// Waits until no other process fetches this blob; the lock ends with the returned file.
    pub fn lock(&self, digest: &Digest, name: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{}.lock", digest.hex()));
        create_parent(&path)?;
        let file = File::options().create(true).append(true).open(&path).map_err(HubError::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                eprintln!("waiting for another program that is fetching {name}")
            }
            // Some network file systems have no locks; the hash at the end still guards the file.
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

/// What changes when a file's content does, as far as the file system tells.
fn stamp(metadata: &Metadata) -> Option<String> {
    let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{} {}", metadata.len(), modified.as_nanos()))
}

/// Writes a small file so that readers see all of it or nothing. Not synced: what a power cut leaves of
/// a ref, a listing or a stamp is recognised, and costs a request or a hash.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    create_parent(path)?;
    let failed = |error| HubError::io("write", path)(error);
    write_file(path, Durability::Cached, failed, |file| file.write_all(bytes).map_err(failed))
}

/// Creates the folder that `path` is to stand in.
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

/// Links need a privilege on Windows that most accounts lack: then a second name, then a copy.
#[cfg(not(unix))]
fn link_file(_relative: &Path, absolute: &Path, link: &Path) -> io::Result<()> {
    fs::hard_link(absolute, link).or_else(|_| fs::copy(absolute, link).map(|_| ()))
}
