//! Finds a model, given as a local folder or as an id of the Hugging Face hub: [`locate`].
//!
//! A hub id is written `owner/name` or `owner/name@revision`. Its files go into the cache of the Python tools
//! (`models--owner--name/{refs,blobs,snapshots,trees}`), so each program finds what the other fetched. Layout
//! and addresses come from the `hf-hub` crate. This crate adds three things: every file is checked against
//! the hash the hub states before it gets its name in the cache, an interrupted download resumes, and without
//! a network a complete copy is used as it is.
//!
//! Only what training needs is fetched: of a model the configuration, tokenizer, chat template and one set
//! of weights (see `files`); of a dataset the files of one split (see `dataset`). Deliberately not here: uploads,
//! and the Xet protocol (Xet repositories are read over plain HTTP, which the hub offers for all of them).

mod cache;
mod client;
mod dataset;
mod digest;
mod download;
mod error;
mod fetch;
mod files;
mod id;
mod options;
mod progress;
mod tree;

pub use dataset::{HubDatasets, data_files};
pub use error::HubError;
pub use id::HubId;
pub use options::{HubOptions, Token};

use std::path::{Path, PathBuf};

/// The local path of `model`: the path itself if it exists, otherwise the snapshot folder of the hub model
/// of that name, fetched if the cache does not hold all of it.
///
/// # Errors
/// [`HubError::NeitherPathNorId`] if the path does not exist and cannot be a hub id; otherwise a failure of
/// the hub, the network or the cache. Each error says what to do about it.
pub fn locate(model: &str, options: &HubOptions) -> Result<PathBuf, HubError> {
    let path = Path::new(model);
    if path.exists() {
        return Ok(path.to_path_buf());
    }
    let id = HubId::parse(model).map_err(|reason| HubError::NeitherPathNorId { model: model.to_string(), reason })?;
    fetch::fetch(&id, options)
}
