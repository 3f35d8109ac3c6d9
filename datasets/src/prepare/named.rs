//! Files that prepared rows name: [`are_unchanged`] compares them with their hashes when prepared rows are found again.
//! Their bytes are no part of a store's key, because the key must be known before any row is read.

use std::path::PathBuf;

use crate::cache::{self, Cache};
use crate::example::ExampleContent;
use crate::kind::RowKind;
use crate::reference::{self, Reach};
use crate::store::Store;
use crate::tensor_file::TensorFile;

/// Number of files that are hashed together.
const MANY: usize = 4096;

/// Whether every file that the rows of `store` name is present, within reach, and has its old hash. Hashes that `cache`
/// remembers are not computed again.
pub(super) fn are_unchanged(store: &Store, cache: &Cache, reach: Reach) -> bool {
    match store.kind {
        RowKind::Tokens => true,
        RowKind::Tensors => (0..store.len()).step_by(MANY).all(|start| {
            let rows = start..store.len().min(start + MANY);
            rows.map(|row| file(store, row, reach)).collect::<Option<Vec<_>>>().is_some_and(|files| {
                let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
                cache::hash_files(&paths, Some(cache))
                    .is_ok_and(|hashes| hashes.iter().zip(&files).all(|(hashed, file)| hashed.sha256 == file.sha256))
            })
        }),
    }
}

/// The file that a row names; absent where the file is out of reach or missing, or the row is damaged.
fn file(store: &Store, row: usize, reach: Reach) -> Option<TensorFile> {
    let example = store.read(row).ok()?;
    let ExampleContent::Tensors(file) = example.content else { return None };
    let name = file.path.strip_prefix(reference::folder(&example.source)).unwrap_or(&file.path);
    let path = reference::resolve(name.to_str()?, &example.source, reach).ok()?;
    Some(TensorFile { path, ..file })
}
