//! Reports on an adapter folder, without its base model: whether it fits one is checked when it is loaded onto it.

use std::path::Path;

use firebrand_adapters::AdapterConfig;
use firebrand_models::ModelError;
use firebrand_models::adapter_folder::{open_tensors, read_config};
use firebrand_models::adapter_of_pipeline;
use serde_json::Value;

use super::report::{AdapterReport, InspectReport, Kind, LowRankReport};
use super::tensors;
use crate::error::Error;

pub(super) fn inspect(folder: &Path) -> Result<InspectReport, Error> {
    let config = read_config(folder)?;
    let file = open_tensors(folder)?;
    let modules = adapter_of_pipeline::group(&file).map_err(ModelError::from)?.adapters.len();
    let files = tensors::folder_files(folder)?;
    let mut report = tensors::report(folder, Kind::Adapter, file.tensors(), files)?;
    let lora = match &config.method {
        AdapterConfig::Lora(lora) | AdapterConfig::Dora(lora) => {
            Some(LowRankReport { rank: lora.rank, alpha: lora.alpha, dropout: lora.dropout, rslora: lora.rslora })
        }
        AdapterConfig::Ia3(_) => None,
    };
    report.adapter = Some(AdapterReport {
        method: config.method.kind(),
        base_model: config.base_model.clone(),
        lora,
        target_modules: config.raw.get("target_modules").cloned().unwrap_or(Value::Null),
        modules,
    });
    Ok(report)
}
