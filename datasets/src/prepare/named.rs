//! Files that prepared rows name: [`are_unchanged`] compares them with their hashes when prepared rows are found again.
//! Their bytes are no part of a store's key, because the key must be known before any row is read.

use std::path::PathBuf;

use crate::cache::{self, Cache};
use crate::example::ExampleContent;
use crate::kind::RowKind;
use crate::medium::Place;
use crate::reference::{self, Reach};
use crate::store::Store;

/// Number of files that are hashed together.
const MANY: usize = 4096;

/// Whether every file that the rows of `store` name is present, within reach, and has its old hash. Hashes that `cache`
/// remembers are not computed again. Pictures that stand in the rows themselves name none.
pub(super) fn are_unchanged(store: &Store, cache: &Cache, reach: Reach) -> bool {
    match store.kind {
        RowKind::Tokens => true,
        RowKind::Tensors => (0..store.len()).step_by(MANY).all(|start| {
            let rows = start..store.len().min(start + MANY);
            rows.map(|row| file(store, row, reach)).collect::<Option<Vec<_>>>().is_some_and(|files| {
                let (paths, hashes): (Vec<PathBuf>, Vec<String>) = files.into_iter().flatten().unzip();
                cache::hash_files(&paths, Some(cache))
                    .is_ok_and(|found| found.iter().zip(&hashes).all(|(found, before)| found.sha256 == *before))
            })
        }),
    }
}

/// The file that a row names, if it names one, and its hash; absent where the file is out of reach or missing, or the row
/// is damaged.
fn file(store: &Store, row: usize, reach: Reach) -> Option<Option<(PathBuf, String)>> {
    let example = store.read(row).ok()?;
    let (path, sha256) = match example.content {
        ExampleContent::Tensors(file) => (file.path, file.sha256),
        ExampleContent::Pictured(pictured) => match pictured.image.place {
            Place::File(path) => (path, pictured.image.sha256),
            Place::Row { .. } => return Some(None),
        },
        ExampleContent::Tokens(_) => return None,
    };
    let name = path.strip_prefix(reference::folder(&example.source)).unwrap_or(&path);
    Some(Some((reference::resolve(name.to_str()?, &example.source, reach).ok()?, sha256)))
}
