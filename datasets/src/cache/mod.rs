//! The cache of prepared rows: [`Cache`] keeps stores from one start to the next and finds them by what they were made
//! of.
//!
//! ```text
//! <folder>/rows/<key>.rows       a store; its key says what it was made of (`key.rs`)
//! <folder>/rows/.<key>.*.tmp     a store being written, locked by the program that writes it
//! <folder>/files/<hash of path>  the hash of a data file, with what tells that it is unchanged (`stamps.rs`)
//! ```
//! A store gets its name by a rename when it is whole and on disk, so a build that was interrupted is never found. When
//! two programs build the same store, both results are right and the later one stays. The caller chooses the folder.

mod key;
mod stamps;

pub(crate) use key::key;
pub(crate) use stamps::{Hashed, hash_files};

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::Serialize;

use crate::error::DataError;
use crate::store::Store;

const ENDING: &str = "rows";
const TEMPORARY: &str = "tmp";

/// A cache folder, which need not exist yet.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

/// A store of prepared rows in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key: a hash of what the rows were made of.
    pub key: String,
    /// Size of their file.
    pub bytes: u64,
    /// Number of rows; absent where the file is no store of this version.
    pub rows: Option<u64>,
    /// Number of tokens of all rows; absent as `rows` is.
    pub tokens: Option<u64>,
    /// The data files they were made from, under the names they had then.
    pub files: Vec<String>,
    /// Seconds since they were last used.
    pub unused_seconds: u64,
}

/// A store being written, with a temporary file for its index.
pub(crate) struct Temporary {
    pub file: File,
    pub index: File,
    /// Its temporary path, and the one it gets when it is whole; absent where it is not kept.
    names: Option<(PathBuf, PathBuf)>,
}

impl Cache {
    /// The cache in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// The cache folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All prepared rows, the most recently used first.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, DataError> {
        let mut entries: Vec<Entry> = self
            .names(&self.rows_folder())?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
            .filter_map(|path| describe(&path).ok())
            .collect();
        entries.sort_by(|left, right| (left.unused_seconds, &left.key).cmp(&(right.unused_seconds, &right.key)));
        Ok(entries)
    }

    /// Removes prepared rows by key. Programs that have them open can go on reading them.
    ///
    /// # Errors
    /// When there are no rows of that key, or they cannot be removed.
    pub fn remove(&self, key: &str) -> Result<(), DataError> {
        let path = self.store(key);
        fs::remove_file(&path).map_err(|source| DataError::Write { path, source })
    }

    /// Removes what interrupted builds left behind, and the remembered hashes of data files.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn tidy(&self) -> Result<(), DataError> {
        self.remove_stale();
        for path in self.names(&self.folder.join("files"))? {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// The store of `key`, if there is a whole one. A damaged store counts as absent: it is made again.
    pub(crate) fn open(&self, key: &str, files: Vec<Arc<Path>>) -> Option<Store> {
        let path = self.store(key);
        let store = Store::open(&File::open(&path).ok()?, &path, files).ok()?;
        // Marks the store as in use; a cache that can only be read works too.
        let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(store)
    }

    /// Creates a temporary file for the store of `key`.
    pub(crate) fn create(&self, key: &str) -> io::Result<Temporary> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(self.rows_folder())?;
        self.remove_stale();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".{key}.{}-{count}.{TEMPORARY}", std::process::id());
        let path = self.rows_folder().join(name);
        let index = tempfile::tempfile_in(self.rows_folder())?;
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        // Where the file system has no locks, `remove_stale` takes no file for abandoned either.
        let _ = file.try_lock();
        Ok(Temporary { file, index, names: Some((path, self.store(key))) })
    }

    fn remove_stale(&self) {
        for path in self.names(&self.rows_folder()).unwrap_or_default() {
            let temporary = path.extension().is_some_and(|ending| ending == TEMPORARY);
            // A file whose lock is free belongs to a program that has ended.
            if temporary && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn names(&self, folder: &Path) -> Result<Vec<PathBuf>, DataError> {
        let unreadable = |source| DataError::Read { path: folder.to_path_buf(), source };
        match fs::read_dir(folder) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(unreadable)).collect(),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(problem) => Err(unreadable(problem)),
        }
    }

    fn rows_folder(&self) -> PathBuf {
        self.folder.join("rows")
    }

    fn store(&self, key: &str) -> PathBuf {
        self.rows_folder().join(format!("{key}.{ENDING}"))
    }
}

impl Temporary {
    /// Temporary files without a name, in the system's folder for such files; they are gone once they are closed.
    pub fn unnamed() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, index: tempfile::tempfile()?, names: None })
    }

    /// The path that messages name.
    pub fn path(&self) -> PathBuf {
        self.names.as_ref().map_or_else(std::env::temp_dir, |(path, _)| path.clone())
    }

    /// Renames the written store to its final name.
    pub fn keep(&self) -> io::Result<()> {
        let Some((path, target)) = &self.names else { return Ok(()) };
        self.file.sync_all()?;
        fs::rename(path, target)?;
        // The rename is on disk once the folder is. Not every system can sync a folder.
        if let Some(Ok(folder)) = target.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }

    /// Removes the temporary file.
    pub fn discard(&self) {
        if let Some((path, _)) = &self.names {
            let _ = fs::remove_file(path);
        }
    }
}

fn describe(path: &Path) -> io::Result<Entry> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let unused = metadata.modified().ok().and_then(|used| used.elapsed().ok()).unwrap_or_default();
    let found = Store::peek(&file);
    Ok(Entry {
        key: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        bytes: metadata.len(),
        rows: found.as_ref().map(|(rows, _)| *rows),
        tokens: found.as_ref().map(|(_, meta)| meta.tokens),
        files: found.map(|(_, meta)| meta.files).unwrap_or_default(),
        unused_seconds: unused.as_secs(),
    })
}

#[cfg(test)]
mod tests;
