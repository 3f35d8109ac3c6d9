//! Files that a row names, such as the file of a row of tensors: [`resolve`] finds them.
//!
//! Rows are untrusted, so a row may only name files below the folder of its own file: no absolute path, no `..`, no
//! link that leads out. `data.allow_outside = true` permits any file, for data whose rows are trusted.

use std::path::{Component, Path, PathBuf};

use crate::error::DataError;
use crate::location::Location;

/// Which files rows may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Files below the folder of the row's own file.
    Below,
    /// All files.
    Anywhere,
}

/// The path of the file `name` in the row at `location`. The file exists and is a regular file.
///
/// # Errors
/// When there is no such file, or it is out of reach.
pub(crate) fn resolve(name: &str, location: &Location, reach: Reach) -> Result<PathBuf, DataError> {
    let wrong = |found: String| {
        DataError::row(location, "the path of a file, starting at the folder of the row's own file", found)
    };
    let outside = |why: &str| {
        wrong(format!("`{name}`, which {why}; data.allow_outside = true permits rows to name files anywhere"))
    };
    let folder = folder(location);
    let path = folder.join(name);
    if reach == Reach::Below {
        for component in Path::new(name).components() {
            match component {
                Component::Normal(_) | Component::CurDir => {}
                Component::ParentDir => return Err(outside("leads out of that folder by `..`")),
                Component::RootDir | Component::Prefix(_) => return Err(outside("is absolute")),
            }
        }
    }
    let absent = |problem: std::io::Error| wrong(format!("`{name}`: {problem} (looked for {})", path.display()));
    let whole = path.canonicalize().map_err(absent)?;
    if reach == Reach::Below && !whole.starts_with(folder.canonicalize().map_err(absent)?) {
        return Err(outside("is a link that leads out of that folder"));
    }
    match whole.is_file() {
        true => Ok(path),
        false => Err(wrong(format!("`{name}`, which is no file"))),
    }
}

/// The folder that the paths in a row are relative to.
pub(crate) fn folder(location: &Location) -> &Path {
    match location.path.parent() {
        // The parent of a bare file name is empty, and the system knows no folder of that name.
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Location) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("rows/deep")).unwrap();
        for name in ["rows/a.bin", "rows/deep/b.bin", "c.bin"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let location = Location::new(dir.path().join("rows/rows.jsonl"), 7);
        (dir, location)
    }

    #[test]
    fn names_start_at_the_folder_of_the_rows_file() {
        let (dir, location) = place();
        for name in ["a.bin", "./a.bin", "deep/b.bin", "deep/./b.bin"] {
            assert_eq!(resolve(name, &location, Reach::Below).unwrap(), dir.path().join("rows").join(name));
        }
    }

    #[test]
    fn what_is_absent_or_no_file_is_an_error_that_names_the_row() {
        let (_dir, location) = place();
        for (name, said) in
            [("gone.bin", "looked for"), ("deep", "no file"), ("", "no file"), ("a.bin/x", "looked for")]
        {
            for reach in [Reach::Below, Reach::Anywhere] {
                let error = resolve(name, &location, reach).unwrap_err().to_string();
                assert!(error.contains("rows.jsonl:7") && error.contains(said), "{error}");
            }
        }
    }

    #[test]
    fn what_lies_outside_is_refused_unless_it_is_permitted() {
        let (dir, location) = place();
        let absolute = dir.path().join("c.bin").display().to_string();
        let inside = dir.path().join("rows/a.bin").display().to_string();
        for (name, said) in [
            ("../c.bin", "`..`"),
            ("deep/../a.bin", "`..`"),
            ("deep/../../c.bin", "`..`"),
            (&absolute, "absolute"),
            (&inside, "absolute"),
        ] {
            let error = resolve(name, &location, Reach::Below).unwrap_err().to_string();
            assert!(error.contains("rows.jsonl:7") && error.contains(said), "{error}");
            assert!(error.contains("allow_outside"), "{error}");
            assert!(resolve(name, &location, Reach::Anywhere).is_ok(), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_may_lead_around_inside_and_not_out() {
        let (dir, location) = place();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, dir.path().join("rows").join(name)).unwrap();
        link("deep/b.bin", "inside.bin");
        link("../c.bin", "out.bin");
        link("..", "up");
        link("loop", "loop");
        assert!(resolve("inside.bin", &location, Reach::Below).is_ok());
        for name in ["out.bin", "up/c.bin"] {
            let error = resolve(name, &location, Reach::Below).unwrap_err().to_string();
            assert!(error.contains("rows.jsonl:7") && error.contains("a link"), "{error}");
            assert!(resolve(name, &location, Reach::Anywhere).is_ok());
        }
        assert!(resolve("loop", &location, Reach::Anywhere).is_err());
        // A link to the data file itself: paths are relative to the link's folder.
        link("deep/rows.jsonl", "linked.jsonl");
        let linked = Location::new(dir.path().join("rows/linked.jsonl"), 1);
        assert!(resolve("a.bin", &linked, Reach::Below).is_ok());
    }
}
