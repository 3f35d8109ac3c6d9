//! PEFT adapter folders, put on a model and written from it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use firebrand_adapters::peft::{CONFIG_FILE, PeftConfig, TENSOR_FILE, group_tensors, tensor_name};
use firebrand_adapters::{Adapter, AdapterConfig, AdapterError, AdapterTensor, AdapterValues, LoraInit, Targets};

use crate::causal_lm::CausalLm;
use crate::error::ModelError;
use crate::expert_adapters;
use crate::model_files::ModelFiles;
use crate::weights::{CheckpointPlan, Dtype, PlanOptions, SafetensorsFile, TensorSpec};

/// Where an adapter's first values come from.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// The method's own initial values.
    Fresh {
        /// Seed of them.
        seed: u64,
        /// The model's files, for starts at what packing the weights lost ([`AdapterConfig::starts_at_what_packing_lost`]).
        original: Option<&'a ModelFiles>,
    },
    /// The tensors of an adapter folder, which must fit the configuration.
    Folder(&'a Path),
}

/// Puts trainable adapters on the modules that `config` selects; gives their paths.
///
/// # Errors
/// A selection that matches nothing, or tensors that do not fit the selected modules one to one.
pub fn attach(model: &mut CausalLm, config: &AdapterConfig, start: Start<'_>) -> Result<Vec<String>, ModelError> {
    let modules = match config.targets() {
        Targets::AllLinear => model.projection_paths()?,
        Targets::Pattern(_) => model.linear_paths()?,
    };
    let selected = config.select(&modules)?;
    if let Start::Fresh { .. } = start {
        expert_adapters::check(model, config, &selected)?;
    }
    let device = model.decoder().device();
    let mut given = match start {
        Start::Fresh { .. } => HashMap::new(),
        Start::Folder(folder) => read_values(&folder.join(TENSOR_FILE), model, config, &selected)?,
    };
    for (path, linear) in model.linears()? {
        if !selected.contains(&path) {
            continue;
        }
        let values = match (start, given.remove(&path)) {
            (_, Some(values)) => values,
            (Start::Fresh { seed, original }, None) => {
                let needed = original.filter(|_| config.starts_at_what_packing_lost());
                let weight = needed.map(|files| files.values_of_map(&path)).transpose()?;
                config.initial(seed, &path, linear, weight)?
            }
            // `read_values` gives one set a selected module.
            (Start::Folder(_), None) => continue,
        };
        let adapter = config.build(&path, linear, values, &device)?;
        linear.attach(adapter);
    }
    Ok(selected)
}

/// Reads an adapter folder and puts it on the model.
///
/// # Errors
/// A folder that is no adapter, a meaning that is not implemented, or tensors that do not fit the model one to one.
pub fn load(model: &mut CausalLm, folder: &Path) -> Result<PeftConfig, ModelError> {
    let config = read_config(folder)?;
    attach(model, &config.method, Start::Folder(folder))?;
    Ok(config)
}

/// As [`load`], for a LoRA adapter that is put on what it was trained on, where `init` says how it started there: one that
/// started by LoftQ needs its start on a packed base, and only there.
///
/// # Errors
/// As [`load`].
pub fn load_started(model: &mut CausalLm, folder: &Path, init: LoraInit) -> Result<PeftConfig, ModelError> {
    let mut config = read_config(folder)?;
    if let AdapterConfig::Lora(lora) = &config.method {
        config.method = AdapterConfig::Lora(lora.started_by(init)?);
    }
    attach(model, &config.method, Start::Folder(folder))?;
    Ok(config)
}

/// Puts several adapter folders on the model together, for inference.
///
/// # Errors
/// As [`load`], and methods that cannot be on a module together.
pub fn load_all(model: &mut CausalLm, folders: &[PathBuf]) -> Result<(), ModelError> {
    for folder in folders {
        let taken = model.linears()?.into_iter().filter_map(|(path, linear)| Some((path, linear.detach()?)));
        let mut before: HashMap<String, Adapter> = taken.collect();
        load(model, folder)?;
        for (path, linear) in model.linears()? {
            let Some(old) = before.remove(&path) else { continue };
            let both = match linear.adapter() {
                Some(new) => old.beside(new)?,
                None => old,
            };
            linear.attach(both);
        }
    }
    Ok(())
}

/// Reads `adapter_config.json`.
///
/// # Errors
/// As [`load`].
pub fn read_config(folder: &Path) -> Result<PeftConfig, ModelError> {
    let path = folder.join(CONFIG_FILE);
    let text = fs::read_to_string(&path).map_err(ModelError::io("read", &path))?;
    Ok(PeftConfig::parse(&path, &text)?)
}

/// Writes the adapters on the model as a PEFT folder, in f32.
///
/// # Errors
/// Those of writing, with the path.
pub fn save(model: &mut CausalLm, config: &AdapterConfig, base_model: &str, folder: &Path) -> Result<(), ModelError> {
    let mut modules = vec![];
    let mut tensors = BTreeMap::new();
    for (path, adapter) in model.adapters()? {
        for (kind, shape, values) in adapter.tensors() {
            tensors.insert((path.clone(), kind), (shape, values));
        }
        modules.push(path);
    }
    let transposed = model.stored_transposed(&modules)?;
    write(&tensors, &PeftConfig::render(config, &modules, base_model, transposed), folder)
}

/// Shape and values of tensors by the module they belong to and what they are.
pub(crate) type Tensors = BTreeMap<(String, AdapterTensor), (Vec<usize>, Vec<f32>)>;

/// Writes tensors in f32 beside the text of the configuration.
pub(crate) fn write(tensors: &Tensors, config: &str, folder: &Path) -> Result<(), ModelError> {
    let named: BTreeMap<String, _> =
        tensors.iter().map(|((path, kind), tensor)| (tensor_name(path, *kind), tensor)).collect();
    let specs = named
        .iter()
        .map(|(name, (shape, _))| TensorSpec { name: name.clone(), dtype: Dtype::F32, shape: shape.clone() })
        .collect();
    let options = PlanOptions { base_name: "adapter_model".into(), max_shard_bytes: u64::MAX, ..Default::default() };
    CheckpointPlan::new(specs, &options)?.write(folder, |spec| {
        let values = named.get(&spec.name).map(|(_, values)| values.as_slice()).unwrap_or_default();
        Ok(Cow::Owned(spec.dtype.encode(values).unwrap_or_default()))
    })?;
    let path = folder.join(CONFIG_FILE);
    fs::write(&path, config).map_err(ModelError::io("write", &path))
}

/// The tensors of every selected module from a file.
fn read_values(
    path: &Path,
    model: &mut CausalLm,
    config: &AdapterConfig,
    selected: &[String],
) -> Result<HashMap<String, AdapterValues>, ModelError> {
    let file = SafetensorsFile::open(path)?;
    let groups = group_tensors(path, file.names())?;
    let mismatch = |problem: String| AdapterError::Mismatch { path: path.to_path_buf(), problem };
    if let Some(stray) = groups.keys().find(|module| !selected.contains(module)) {
        let why =
            if model.linear_paths()?.contains(stray) { "its targets do not name" } else { "the model does not have" };
        return Err(mismatch(format!("it holds tensors for `{stray}`, which {why}")).into());
    }
    let mut found = HashMap::new();
    for (module, linear) in model.linears()? {
        if !selected.contains(&module) {
            continue;
        }
        let Some(names) = groups.get(&module) else {
            return Err(mismatch(format!("it has no tensors for `{module}`, which its targets name")).into());
        };
        let shapes = config.shapes(&module, linear.shape())?;
        if let Some(stray) = names.iter().find(|(tensor, _)| shapes.iter().all(|(known, _)| known != *tensor)) {
            return Err(
                mismatch(format!("`{}` belongs to another method than its configuration names", stray.1)).into()
            );
        }
        let mut values = AdapterValues::new();
        for (tensor, shape) in shapes {
            let name = tensor_name(&module, tensor);
            if !names.contains_key(&tensor) {
                return Err(mismatch(format!("it has no `{name}`")).into());
            }
            let view = file.get(&name)?;
            if view.shape != shape {
                return Err(mismatch(format!("`{name}` is {:?}, expected {shape:?}", view.shape)).into());
            }
            view.check_finite()?;
            values.insert(tensor, view.to_f32()?);
        }
        found.insert(module, values);
    }
    Ok(found)
}
