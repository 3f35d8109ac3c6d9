//! The folder of a model that a recipe names: [`model_folder`].

use std::path::PathBuf;

use firebrand_hub::{HubOptions, locate};

use crate::error::Error;
use crate::recipe::ModelSource;

/// The folder of a model, fetched if necessary.
///
/// # Errors
/// Those of the hub.
pub fn model_folder(source: &ModelSource) -> Result<PathBuf, Error> {
    match source {
        ModelSource::Local(path) => Ok(path.clone()),
        ModelSource::Hub { .. } => Ok(locate(&source.to_string(), &HubOptions::from_env()?)?),
    }
}
