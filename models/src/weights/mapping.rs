//! Files mapped into memory for reading: [`map`] maps a file, [`release`] gives memory back.
//!
//! If another process shortens a mapped file while it is in use, this process ends with SIGBUS; that is the price of
//! not copying gigabytes. Whole files are only ever replaced by renaming, which is safe.
//!
//! Pages that were read count as memory of this process until the system reclaims them. [`release`] gives them back at
//! once, so that a process that loads a model holds only what it has loaded, whatever the size of the files.

use std::{
    fs::{self, File},
    path::Path,
};

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use crate::error::ModelError;

/// Maps the file at `path`; `what` names the expected content if the path is not a file.
pub(super) fn map(path: &Path, what: &str) -> Result<Mmap, ModelError> {
    // Checked before opening, because opening a pipe would wait for its writer.
    let kind = fs::metadata(path).map_err(ModelError::io("open", path))?;
    if !kind.is_file() {
        return Err(ModelError::malformed(path, what, "a folder or device"));
    }
    let file = File::open(path).map_err(ModelError::io("open", path))?;
    // SAFETY: the mapping is only read; see the module doc for a file that changes while it is mapped.
    unsafe { Mmap::map(&file) }.map_err(ModelError::io("map", path))
}

/// Releases the memory of the pages under `part`, a slice of `map`. They are read from the file again when they are
/// accessed.
#[cfg(unix)]
pub(super) fn release(map: &Mmap, part: &[u8]) {
    let Some(offset) = (part.as_ptr() as usize).checked_sub(map.as_ptr() as usize) else { return };
    if offset + part.len() <= map.len() {
        // SAFETY: the mapping is of a file and was never written to, so its pages hold only the file's content. If the
        // system refuses the advice, the memory is just not released.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, part.len()) };
    }
}

/// Other systems have no such advice.
#[cfg(not(unix))]
pub(super) fn release(_map: &Mmap, _part: &[u8]) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Kilobytes of the file's pages that are in the memory of this process.
    fn resident(path: &Path) -> usize {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines().skip_while(|line| !line.ends_with(path.to_str().unwrap()));
        let line = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn pages_that_are_released_are_given_back_and_can_be_read_again() {
        const SIZE: usize = 4 << 20;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("weights");
        fs::write(&path, (0..SIZE).map(|index| (index % 251) as u8).collect::<Vec<u8>>()).unwrap();
        let map = map(&path, "a file").unwrap();
        let sum = || map.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let before = sum();
        assert!(resident(&path) >= SIZE / 1024);
        release(&map, &map[SIZE / 4..SIZE / 2]);
        assert!(resident(&path) <= SIZE / 1024 * 3 / 4);
        release(&map, &map[..]);
        assert_eq!(resident(&path), 0);
        // A slice of other memory is ignored.
        release(&map, &[1, 2, 3]);
        assert_eq!(sum(), before);
    }
}
