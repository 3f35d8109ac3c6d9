//! What integration tests share. Nothing here is part of the program.

pub mod device;
pub mod families;
pub mod golden;
pub mod hub_server;
pub mod imports;
pub mod pairs;
pub mod sources;
pub mod tensors;
pub mod tiny;
pub mod training;

use std::path::{Path, PathBuf};

/// The root of the repository: where the tests were built, or what `FIREBRAND_REPOSITORY` names, for tests that were built elsewhere.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = tests.parent().unwrap_or(tests);
    std::env::var_os("FIREBRAND_REPOSITORY").map_or_else(|| built.to_path_buf(), PathBuf::from)
}
