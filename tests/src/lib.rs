//! What integration tests share. Nothing here is part of the program.

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

/// The root of the repository.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}
