//! `firebrand inspect PATH`: reports what a model, an adapter, a checkpoint or a file of weights holds. See
//! [`inspect`].
//!
//! Files are read by the code that loads them for training, with all of its checks, also that every weight is finite.
//! So what can be inspected can be loaded, and a bad file gives the loader's message. The exception is a model of an
//! unknown architecture, which gets a report of its tensors. How much an adapter changes each module is a report of its
//! own (`modules.rs`). Nothing is computed with a model and none is built. Not here: GGUF, and hub ids (see
//! [`firebrand_hub::locate`]).

mod adapter;
mod checkpoint;
mod model;
mod modules;
mod modules_text;
mod report;
mod tensors;
mod text;

pub use modules::{AdapterModules, LowRank, ModuleReport, Spread, Summary, inspect_adapter};
pub use report::{
    AdapterReport, Architecture, BlockSizes, CheckpointReport, DecoderSizes, DtypeReport, FamilyReport, FileReport,
    InspectReport, Kind, TensorReport,
};
pub(crate) use text::thousands;

use std::path::Path;

use firebrand_adapters::peft;
use firebrand_models::adapter_of_pipeline;

use crate::error::Error;
use crate::run::{MANIFEST, STATE, TRAINER_STATE};

/// Reports on `path`: a folder, a file of weights or an index of shards. Every file is read completely.
///
/// # Errors
/// Those of loading it, and [`Error::Request`] for a folder of another kind.
pub fn inspect(path: &Path) -> Result<InspectReport, Error> {
    if !std::fs::metadata(path).map_err(Error::io(path))?.is_dir() {
        return tensors::inspect(path);
    }
    let has = |name: &str| path.join(name).exists();
    if has(MANIFEST) || has(STATE) || has(TRAINER_STATE) {
        checkpoint::inspect(path)
    } else if has(peft::CONFIG_FILE) || (!has("config.json") && adapter_of_pipeline::find(path).is_some()) {
        adapter::inspect(path)
    } else if has("recipe.toml") && !has("config.json") {
        Err(Error::Request {
            problem: format!("{} is the output of a run", path.display()),
            help: format!("inspect one of the folders in it: {}", folders(path)),
        })
    } else {
        model::inspect(path)
    }
}

fn folders(path: &Path) -> String {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name == "adapter" || name == "model" || name.starts_with("checkpoint-"))
        .collect();
    names.sort();
    if names.is_empty() { "it has none yet".to_string() } else { names.join(", ") }
}
