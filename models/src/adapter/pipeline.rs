//! LoRA files of diffusion pipelines: [`save`] writes them, and [`super::folder`] reads them like PEFT's own folders.
//!
//! diffusers keeps the settings of PEFT in the metadata of the file, with `unet.` before every key. Where there are none,
//! ranks are read off the tensors, and alpha is that of its tensors (kohya) or the rank (diffusers).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use firebrand_adapters::peft::{
    AdapterTensor, BaseModel, CONFIG_FILE, PeftConfig, TENSOR_FILE, TensorNames, group_tensors,
};
use firebrand_adapters::{AdapterConfig, AdapterError};
use serde_json::{Map, Value, json};

use crate::error::ModelError;
use crate::model::{Model, encode_finite};
use crate::parameters::Role;
use crate::weights::{
    CheckpointPlan, Dtype, LORA_FILE, LoraFormat, LoraTensor, PlanOptions, TensorSpec, WeightsFile, parse_lora_name,
    write_lora_name,
};

/// The key of the file's metadata with the settings.
const METADATA: &str = "lora_adapter_metadata";
/// What stands before each of them.
const COMPONENT: &str = "unet.";
/// The file that is written in kohya's format.
const KOHYA_FILE: &str = "lora";

/// The LoRA file of a pipeline in `folder`: that which diffusers looks for, or the only file of tensors in a folder that is
/// none of PEFT.
pub fn find(folder: &Path) -> Option<PathBuf> {
    if [CONFIG_FILE, TENSOR_FILE].iter().any(|name| folder.join(name).exists()) {
        return None;
    }
    let usual = folder.join(LORA_FILE);
    if usual.is_file() {
        return Some(usual);
    }
    let entries = fs::read_dir(folder).ok()?.flatten().take(1_000).map(|entry| entry.path());
    let mut files = entries.filter(|path| path.extension().is_some_and(|ending| ending == "safetensors"));
    match (files.next(), files.next()) {
        (Some(file), None) if names_some(&file) => Some(file),
        _ => None,
    }
}

/// Whether a file has tensors of LoRA on a UNet.
fn names_some(path: &Path) -> bool {
    WeightsFile::open(path).is_ok_and(|file| file.names().any(|name| parse_lora_name(name).is_some()))
}

/// The names of the tensors in an adapter's file, grouped: PEFT's own, or those of a pipeline.
///
/// # Errors
/// A name that belongs to no module, or one of two factors without the other.
pub fn group(file: &WeightsFile) -> Result<TensorNames, AdapterError> {
    if !file.names().any(|name| parse_lora_name(name).is_some()) {
        return group_tensors(file.path(), file.names());
    }
    let mismatch = |problem| AdapterError::Mismatch { path: file.path().to_path_buf(), problem };
    let mut found = TensorNames::default();
    for name in file.names() {
        let Some((module, tensor)) = parse_lora_name(name) else {
            return Err(mismatch(format!("tensor `{name}` is not used: of a pipeline only the UNet is adapted here")));
        };
        let tensor = match tensor {
            LoraTensor::Down => AdapterTensor::A,
            LoraTensor::Up => AdapterTensor::B,
            LoraTensor::Alpha => continue,
        };
        if let Some(before) = found.adapters.entry(module).or_default().insert(tensor, name.to_owned()) {
            return Err(mismatch(format!("`{before}` and `{name}` are one tensor")));
        }
    }
    match found.adapters.iter().find(|(_, tensors)| tensors.len() != 2) {
        Some((module, _)) => Err(mismatch(format!("`{module}` has only one of its two factors"))),
        None => Ok(found),
    }
}

/// The settings of a pipeline's LoRA.
///
/// # Errors
/// Settings that are not implemented; tensors that are not LoRA's.
pub(super) fn read_config(path: &Path) -> Result<PeftConfig, ModelError> {
    let file = WeightsFile::open(path)?;
    let said = match &file {
        WeightsFile::Safetensors(file) => file.metadata().get(METADATA),
        WeightsFile::Pickle(_) => None,
    };
    let text = match said {
        Some(text) => of_metadata(path, text)?,
        None => of_tensors(&file)?,
    };
    Ok(PeftConfig::parse(path, &text)?)
}

/// The settings in the metadata, as PEFT would write them.
fn of_metadata(path: &Path, text: &str) -> Result<String, ModelError> {
    let said: Map<String, Value> =
        serde_json::from_str(text).map_err(|source| AdapterError::Json { path: path.to_path_buf(), source })?;
    let settings = said.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(COMPONENT)?.to_owned(), value)));
    Ok(Value::Object(settings.collect()).to_string())
}

/// The settings that the tensors show: the commonest rank and alpha, and patterns for what differs.
fn of_tensors(file: &WeightsFile) -> Result<String, ModelError> {
    let names = group(file)?;
    let mut alphas: HashMap<String, f64> = HashMap::new();
    for name in file.names() {
        if let Some((module, LoraTensor::Alpha)) = parse_lora_name(name) {
            let values = file.get(name)?.to_f32()?;
            alphas.insert(module, f64::from(values.first().copied().unwrap_or_default()));
        }
    }
    let mut settings: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for (module, tensors) in &names.adapters {
        let Some(name) = tensors.get(&AdapterTensor::A) else { continue };
        let rank = file.get(name)?.shape.first().copied().unwrap_or_default();
        settings.insert(module, (rank, alphas.get(module).copied().unwrap_or(rank as f64)));
    }
    let mut counts: Vec<((usize, f64), usize)> = vec![];
    for found in settings.values() {
        match counts.iter_mut().find(|(known, _)| known == found) {
            Some((_, count)) => *count += 1,
            None => counts.push((*found, 1)),
        }
    }
    let (rank, alpha) = counts.into_iter().max_by_key(|(_, count)| *count).map_or((1, 1.0), |(usual, _)| usual);
    let pattern = |module: &str| module.replace('.', r"\.");
    let others = || settings.iter().filter(|(_, found)| **found != (rank, alpha));
    let ranks: Map<String, Value> = others().map(|(module, (rank, _))| (pattern(module), json!(rank))).collect();
    let alphas: Map<String, Value> = others().map(|(module, (_, alpha))| (pattern(module), json!(alpha))).collect();
    let config = json!({
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "target_modules": settings.keys().collect::<Vec<_>>(),
    });
    Ok(config.to_string())
}

/// Writes the LoRA on a pipeline's UNet into `folder`, in f32.
///
/// # Errors
/// Another method than LoRA; errors of writing, with the path.
pub fn save(
    model: &Model,
    config: &AdapterConfig,
    base_model: &str,
    folder: &Path,
    format: LoraFormat,
) -> Result<(), ModelError> {
    let AdapterConfig::Lora(lora) = config else {
        let problem = "files of pipelines hold LoRA only, and this adapter is another; it is in its checkpoints";
        return Err(AdapterError::Initial { path: folder.display().to_string(), problem: problem.into() }.into());
    };
    let lora = lora.in_files();
    let mut modules = vec![];
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for (path, placed) in model.adapters()? {
        for (kind, shape, values) in placed.tensors() {
            let tensor = if kind.is_b() { LoraTensor::Up } else { LoraTensor::Down };
            let shape = shape_in_files(model, &placed.parameter, kind, shape);
            tensors.insert(write_lora_name(&path, tensor, format), (shape, values));
        }
        if format == LoraFormat::Kohya {
            // There the factor is always alpha by the rank.
            let (rank, scale) = (lora.rank_at(&path)?, lora.scale_at(&path)?);
            let alpha = (scale * rank as f64) as f32;
            tensors.insert(write_lora_name(&path, LoraTensor::Alpha, format), (vec![], vec![alpha]));
        }
        modules.push(path);
    }
    let mut metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let base_name = match format {
        LoraFormat::Diffusers => {
            let base = BaseModel {
                name: base_model.into(),
                fan_in_fan_out: false,
                task: model.family().peft_task(model.kind()),
            };
            metadata.insert(METADATA.to_owned(), to_metadata(&PeftConfig::render(config, &modules, &base))?);
            LORA_FILE.trim_end_matches(".safetensors")
        }
        LoraFormat::Kohya => KOHYA_FILE,
    };
    let spec = |(name, (shape, _)): (&String, &(Vec<usize>, Vec<f32>))| TensorSpec {
        name: name.clone(),
        dtype: Dtype::F32,
        shape: shape.clone(),
    };
    let options = PlanOptions { base_name: base_name.to_owned(), max_shard_bytes: u64::MAX, metadata };
    CheckpointPlan::new(tensors.iter().map(spec).collect(), &options)?.write(folder, |spec| {
        let values = tensors.get(&spec.name).map(|(_, values)| values.as_slice()).unwrap_or_default();
        encode_finite(&spec.name, values, spec.dtype).map(Cow::Owned)
    })?;
    Ok(())
}

/// The shape in files of a tensor of the adapter on `parameter`: factors of a convolution of one pixel are convolutions too.
pub(super) fn shape_in_files(model: &Model, parameter: &str, kind: AdapterTensor, shape: Vec<usize>) -> Vec<usize> {
    let is_factor = match kind {
        AdapterTensor::A | AdapterTensor::B => true,
        AdapterTensor::EmbeddingA | AdapterTensor::EmbeddingB | AdapterTensor::Magnitude | AdapterTensor::Scale => {
            false
        }
    };
    let is_pointwise = || {
        let mut infos = model.base_parameters().iter();
        infos.any(|info| info.path == parameter && info.role == Role::Pointwise)
    };
    if is_factor && is_pointwise() { [shape.as_slice(), &[1, 1]].concat() } else { shape }
}

/// The settings of an `adapter_config.json` as metadata: sorted, and without what only PEFT's own loader reads.
fn to_metadata(text: &str) -> Result<String, ModelError> {
    let settings: BTreeMap<String, Value> =
        serde_json::from_str(text).map_err(|source| AdapterError::Json { path: PathBuf::from(METADATA), source })?;
    let kept = settings.into_iter().filter(|(key, _)| key != "auto_mapping");
    let said: Map<String, Value> = kept.map(|(key, value)| (format!("{COMPONENT}{key}"), value)).collect();
    Ok(format!("{:#}", Value::Object(said)))
}
