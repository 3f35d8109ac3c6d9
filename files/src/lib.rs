//! Writes files and folders that are complete or unchanged: [`write_file`] and [`write_folder`].
//!
//! New content is written under a temporary name beside its destination and renamed when it is complete, so an error, a
//! panic or a crash while it is written leaves what was there. [`Durability`] says whether a power cut may undo the
//! write. Callers have their own error types, so each function is given a closure that converts an [`io::Error`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Suffix of a folder's name while it is filled; the process id follows.
pub const TEMPORARY: &str = ".tmp-";
/// Suffix under which the previous folder is kept while it is replaced.
pub const REPLACED: &str = ".tmp-replaced";

/// Whether a power cut may undo a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It may not: content and name are on the disk when the call returns.
    Synced,
    /// It may. For files that can be made again.
    Cached,
}

/// Writes the file `path` with `fill`, replacing what is there. Errors of the system are converted by `failed`.
///
/// # Errors
/// Those of `fill` and of the system. Unless the error comes after the rename, `path` is as it was.
pub fn write_file<T, E>(
    path: &Path,
    durability: Durability,
    failed: impl Fn(io::Error) -> E,
    fill: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let name = path.file_name().ok_or_else(|| failed(nameless()))?.to_string_lossy();
    let temporary = Unfinished { path: path.with_file_name(temporary_name(&name)) };
    let mut writer = BufWriter::new(File::create(&temporary.path).map_err(&failed)?);
    let made = fill(&mut writer)?;
    let file = writer.into_inner().map_err(|error| failed(error.into_error()))?;
    match durability {
        Durability::Synced => keep(file, &temporary.path, path),
        Durability::Cached => {
            drop(file);
            fs::rename(&temporary.path, path)
        }
    }
    .map_err(failed)?;
    Ok(made)
}

/// Writes the folder `path`, replacing what is there. `fill` is given an empty folder. Missing parent folders are
/// created. With [`Durability::Synced`] this function syncs the names; `fill` must sync the files.
///
/// # Errors
/// Those of `fill` and of the system. Unless the error comes after the rename, `path` is as it was.
pub fn write_folder<T, E>(
    path: &Path,
    durability: Durability,
    failed: impl Fn(io::Error) -> E,
    fill: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let temporary = behind(path, &format!("{TEMPORARY}{}", std::process::id())).map_err(&failed)?;
    remove(&temporary).map_err(&failed)?;
    fs::create_dir_all(&temporary).map_err(&failed)?;
    let temporary = Unfinished { path: temporary };
    let made = fill(&temporary.path)?;
    let sync = |path: &Path| match durability {
        Durability::Synced => sync_folder(path),
        Durability::Cached => Ok(()),
    };
    sync(&temporary.path).map_err(&failed)?;
    replace_folder(&temporary.path, path, &sync).map_err(&failed)?;
    Ok(made)
}

/// Syncs the finished `file`, which is at `written`, renames it to `path`, and syncs the folder.
///
/// # Errors
/// Those of the system.
pub fn keep(file: File, written: &Path, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    // Windows cannot rename an open file.
    drop(file);
    fs::rename(written, path)?;
    sync_folder(parent(path))
}

/// Flushes a file's content to the disk.
///
/// # Errors
/// Those of the system.
pub fn sync_file(path: &Path) -> io::Result<()> {
    // Opened for writing because Windows cannot flush a read-only handle.
    OpenOptions::new().write(true).open(path)?.sync_all()
}

/// Flushes a folder's list of names to the disk, which makes creations and renames in it durable.
///
/// # Errors
/// Those of the system.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    // Only Unix has folders that can be opened and synced.
    if cfg!(unix) {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

/// A temporary name for the file that will be called `name`; no other thread or process gets the same one.
pub fn temporary_name(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(".{name}.{}-{count}.tmp", std::process::id())
}

/// Removes a file or folder, if it is there.
///
/// # Errors
/// Those of the system.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}

/// A temporary file or folder. It is removed when dropped, unless it was renamed.
struct Unfinished {
    path: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // This error is ignored: the earlier one is reported.
        let _ = remove(&self.path);
    }
}

/// Renames `temporary` to `path`. A folder already there is moved aside first, and back if the rename fails.
fn replace_folder(temporary: &Path, path: &Path, sync: &impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    if fs::symlink_metadata(path).is_err() {
        fs::rename(temporary, path)?;
        return sync(parent(path));
    }
    let aside = behind(path, REPLACED)?;
    remove(&aside)?;
    fs::rename(path, &aside)?;
    if let Err(error) = fs::rename(temporary, path) {
        // Restores the previous folder. An error here is ignored: the first one is reported.
        let _ = fs::rename(&aside, path);
        return Err(error);
    }
    sync(parent(path))?;
    remove(&aside)?;
    sync(parent(path))
}

fn behind(path: &Path, ending: &str) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or_else(nameless)?.to_os_string();
    name.push(ending);
    Ok(path.with_file_name(name))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn nameless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Durability; 2] = [Durability::Synced, Durability::Cached];

    fn write(path: &Path, durability: Durability, content: &[u8]) -> io::Result<()> {
        write_file(path, durability, |error| error, |file| file.write_all(content))
    }

    fn fill(path: &Path, durability: Durability, content: &str) -> io::Result<()> {
        write_folder(path, durability, |error| error, |folder| fs::write(folder.join("a"), content))
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        for durability in BOTH {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run.json");
            write(&path, durability, b"old").unwrap();
            write(&path, durability, b"new").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(names(folder.path()), ["run.json"]);
        }
    }

    #[test]
    fn what_fails_while_a_file_is_written_changes_nothing() {
        for durability in BOTH {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run.json");
            write(&path, durability, b"old").unwrap();
            let result = write_file(
                &path,
                durability,
                |error| error,
                |file| {
                    file.write_all(b"ne")?;
                    Err::<(), _>(io::Error::other("the rest is missing"))
                },
            );
            assert!(result.is_err());
            let panic = std::panic::catch_unwind(|| {
                write_file(&path, durability, |error: io::Error| error, |_| -> io::Result<()> { panic!("a bug") })
            });
            assert!(panic.is_err());
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(names(folder.path()), ["run.json"]);
        }
    }

    #[test]
    fn a_file_that_cannot_get_its_name_leaves_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        // A folder of that name makes the last step, the rename, fail.
        let path = folder.path().join("run.json");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("kept"), b"kept").unwrap();
        for durability in BOTH {
            assert!(write(&path, durability, b"new").is_err());
        }
        assert_eq!(fs::read(path.join("kept")).unwrap(), b"kept");
        assert_eq!(names(folder.path()), ["run.json"]);
    }

    #[test]
    fn a_folder_is_replaced_and_nothing_else_is_left() {
        for durability in BOTH {
            let outside = tempfile::tempdir().unwrap();
            let path = outside.path().join("new/model");
            fill(&path, durability, "old").unwrap();
            fs::write(path.join("b"), "only in the old one").unwrap();
            fill(&path, durability, "new").unwrap();
            assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "new");
            assert_eq!(names(&path), ["a"]);
            assert_eq!(names(&outside.path().join("new")), ["model"]);
        }
    }

    #[test]
    fn what_fails_while_a_folder_is_filled_changes_nothing() {
        for durability in BOTH {
            let outside = tempfile::tempdir().unwrap();
            let path = outside.path().join("model");
            fill(&path, durability, "old").unwrap();
            let result = write_folder(
                &path,
                durability,
                |error| error,
                |folder| {
                    fs::write(folder.join("a"), "half")?;
                    Err::<(), _>(io::Error::other("the rest is missing"))
                },
            );
            assert!(result.is_err());
            assert_eq!(fs::read_to_string(path.join("a")).unwrap(), "old");
            assert_eq!(names(outside.path()), ["model"]);
        }
    }

    #[test]
    fn a_path_without_a_name_is_an_error() {
        for path in ["", "..", "/"] {
            assert!(write(Path::new(path), Durability::Cached, b"").is_err());
            assert!(fill(Path::new(path), Durability::Cached, "").is_err());
        }
    }

    #[test]
    fn temporary_names_differ() {
        assert_ne!(temporary_name("a"), temporary_name("a"));
    }
}
