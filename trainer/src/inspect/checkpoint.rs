//! Reports on a checkpoint of a run: compares every byte with its manifest, then reports on the adapter or model in it.

use std::path::Path;

use firebrand_adapters::peft;
use firebrand_models::weights::{Checkpoint as Weights, SafetensorsFile};

use super::report::{CheckpointReport, InspectReport, Kind};
use super::{adapter, model, tensors};
use crate::error::Error;
use crate::run::{Checkpoint, RunState};

const OPTIMIZER: &str = "optimizer.safetensors";

pub(super) fn inspect(folder: &Path) -> Result<InspectReport, Error> {
    let checkpoint = Checkpoint::open(folder)?;
    let state = RunState::read(folder)?;
    let optimizer = checkpoint.manifest.files.get(OPTIMIZER);
    let optimizer_tensors = match optimizer {
        Some(_) => SafetensorsFile::open(folder.join(OPTIMIZER))?.names().len(),
        None => 0,
    };
    let has = |name: &str| folder.join(name).exists();
    let mut report = if has(peft::CONFIG_FILE) {
        adapter::inspect(folder)?
    } else if has("config.json") {
        model::inspect(folder)?
    } else {
        let files = tensors::folder_files(folder)?;
        tensors::report(folder, Kind::Checkpoint, Weights::open(folder)?.tensors(), files)?
    };
    report.kind = Kind::Checkpoint;
    report.checkpoint = Some(CheckpointReport {
        step: checkpoint.step,
        epoch: state.epoch,
        tokens: state.tokens,
        seed: state.seed,
        metric: checkpoint.manifest.metric,
        optimizer_tensors,
        optimizer_bytes: optimizer.map_or(0, |file| file.bytes),
    });
    Ok(report)
}
