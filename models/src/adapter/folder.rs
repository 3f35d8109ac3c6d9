//! PEFT adapter folders: [`attach`] and [`load`] put adapters on a model, [`save`] writes them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use firebrand_adapters::peft::{BaseModel, CONFIG_FILE, PeftConfig, TENSOR_FILE, group_tensors, tensor_name};
use firebrand_adapters::{Adapter, AdapterConfig, AdapterError, AdapterValues, LoraInit, Targets, Tying};

use super::experts;
use super::site::Original;
use super::trained_base::{self, BaseParameter, Tensors};
use super::vocabulary;
use crate::error::ModelError;
use crate::model::{Model, ModelFiles};
use crate::weights::{CheckpointPlan, Dtype, PlanOptions, SafetensorsFile, TensorSpec};

/// Where an adapter's first values come from.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// The method's own initial values.
    Fresh {
        /// Seed of random initial values.
        seed: u64,
        /// The model's files, for starts from the quantization error
        /// ([`AdapterConfig::starts_at_what_quantization_lost`]).
        original: Option<&'a ModelFiles>,
    },
    /// The tensors of an adapter folder, which must fit the configuration.
    Folder(&'a Path),
}

/// Puts trainable adapters on the modules that `config` selects, and makes the parameters of the base that it trains
/// trainable. Returns the paths of the adapted modules.
///
/// # Errors
/// A selection that matches nothing, or tensors that do not match the selected modules one to one.
pub fn attach(model: &mut Model, config: &AdapterConfig, start: Start<'_>) -> Result<Vec<String>, ModelError> {
    if let Start::Folder(folder) = start {
        let path = folder.join(TENSOR_FILE);
        let file = SafetensorsFile::open(&path)?;
        vocabulary::fit(model, &file, &group_tensors(&path, file.names())?)?;
    }
    let modules = match config.targets() {
        Targets::AllLinear => model.projection_paths()?,
        Targets::Pattern(_) => model.site_paths()?,
    };
    let selected = config.select(&modules)?;
    if let Start::Fresh { .. } = start {
        experts::check(model, config, &selected)?;
    }
    check_tie(model, config, &selected)?;
    let trained = trained_base::select(model, config.trained_base(), &selected)?;
    let device = model.device();
    let mut given = match start {
        Start::Fresh { .. } => Given::default(),
        Start::Folder(folder) => read_values(&folder.join(TENSOR_FILE), model, config, &selected, &trained)?,
    };
    for (path, site) in model.sites_mut()? {
        if !selected.contains(&path) {
            continue;
        }
        let values = match (start, given.adapters.remove(&path)) {
            (_, Some(values)) => values,
            (Start::Fresh { seed, original }, None) => {
                let needed = original.filter(|_| config.starts_at_what_quantization_lost());
                let read = needed.map(|files| |path: &str| files.values_of_map(path));
                site.initial(config, seed, &path, read.as_ref().map(|read| read as &Original<'_>))?
            }
            // `read_values` returns a set of tensors for each selected module.
            (Start::Folder(_), None) => continue,
        };
        site.build(config, &path, values, &device)?;
    }
    trained_base::activate(model, &trained, config.trained_base().tying, given.base);
    Ok(selected)
}

/// Error: adapters on a token table that stays tied to the head. What PEFT merges of them differs from what it trained.
fn check_tie(model: &Model, config: &AdapterConfig, selected: &[String]) -> Result<(), ModelError> {
    let Some(ends) = model.ends().filter(|ends| ends.tied && config.trained_base().tying != Tying::Broken) else {
        return Ok(());
    };
    for ours in [ends.embedding, ends.head] {
        let name = model.name_for_peft(ours)?;
        let module = name.strip_suffix(".weight").unwrap_or(&name);
        if selected.iter().any(|path| path == module) {
            let problem = "an adapter on an embedding that stays the output head too (ensure_weight_tying) is not supported; leave \
                           ensure_weight_tying out, or put both into modules_to_save";
            return Err(AdapterError::Initial { path: module.into(), problem: problem.into() }.into());
        }
    }
    Ok(())
}

/// Reads an adapter folder and puts it on the model.
///
/// # Errors
/// A folder without an adapter, a setting that is not implemented, or tensors that do not match the model one to one.
pub fn load(model: &mut Model, folder: &Path) -> Result<PeftConfig, ModelError> {
    let config = read_config(folder)?;
    attach(model, &config.method, Start::Folder(folder))?;
    Ok(config)
}

/// As [`load`], for a LoRA adapter on the weights that it was trained on. `init` says how its factors started: an
/// adapter that started by LoftQ needs its start on a quantized base, and only there.
///
/// # Errors
/// As [`load`].
pub fn load_started(model: &mut Model, folder: &Path, init: LoraInit) -> Result<PeftConfig, ModelError> {
    let mut config = read_config(folder)?;
    if let AdapterConfig::Lora(lora) = &config.method {
        config.method = AdapterConfig::Lora(lora.started_by(init)?);
    }
    attach(model, &config.method, Start::Folder(folder))?;
    Ok(config)
}

/// Puts several adapter folders on the model at once, for inference.
///
/// # Errors
/// As [`load`], and methods that cannot share a module.
pub fn load_all(model: &mut Model, folders: &[PathBuf]) -> Result<(), ModelError> {
    let mut changed_base: Option<&Path> = None;
    let mut vocabulary: Option<(Option<usize>, &Path)> = None;
    for folder in folders {
        let taken = model.sites_mut()?.into_iter().filter_map(|(path, mut site)| Some((path, site.detach()?)));
        let mut before: HashMap<String, Adapter> = taken.collect();
        let config = load(model, folder)?;
        if !config.method.trained_base().is_empty()
            && let Some(other) = changed_base.replace(folder)
        {
            let problem = format!(
                "both {} and {} hold trained parts of the base (modules_to_save, bias); only one of them can",
                other.display(),
                folder.display()
            );
            return Err(AdapterError::Several { problem }.into());
        }
        let (rows, first) = *vocabulary.get_or_insert((model.vocabulary(), folder));
        if rows != model.vocabulary() {
            let problem = format!(
                "{} was trained with another number of tokens than {}; only one of them can be used at a time",
                folder.display(),
                first.display()
            );
            return Err(AdapterError::Several { problem }.into());
        }
        for (path, mut site) in model.sites_mut()? {
            if let Some(old) = before.remove(&path) {
                site.attach_beside(old)?;
            }
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

/// Writes the adapters of the model, and the parameters of the base trained beside them, as a PEFT folder in f32.
///
/// # Errors
/// Errors of writing, with the path.
pub fn save(model: &Model, config: &AdapterConfig, base_model: &str, folder: &Path) -> Result<(), ModelError> {
    let mut modules = vec![];
    let mut tensors = Tensors::new();
    for (path, placed) in model.adapters()? {
        for (kind, shape, values) in placed.tensors() {
            tensors.insert(tensor_name(&path, kind), (shape, values));
        }
        modules.push(path);
    }
    let trained = trained_base::select(model, config.trained_base(), &modules)?;
    tensors.extend(trained_base::tensors(model, &trained));
    let transposed = model.stored_transposed(&modules)?;
    let base = BaseModel { name: base_model.into(), fan_in_fan_out: transposed, task: model.family().peft_task() };
    write(&tensors, &PeftConfig::render(config, &modules, &base), folder)
}

/// Writes tensors in f32, and the configuration beside them.
pub(crate) fn write(tensors: &Tensors, config: &str, folder: &Path) -> Result<(), ModelError> {
    let specs = tensors
        .iter()
        .map(|(name, (shape, _))| TensorSpec { name: name.clone(), dtype: Dtype::F32, shape: shape.clone() })
        .collect();
    let options = PlanOptions { base_name: "adapter_model".into(), max_shard_bytes: u64::MAX, ..Default::default() };
    CheckpointPlan::new(specs, &options)?.write(folder, |spec| {
        let values = tensors.get(&spec.name).map(|(_, values)| values.as_slice()).unwrap_or_default();
        Ok(Cow::Owned(spec.dtype.encode(values).unwrap_or_default()))
    })?;
    let path = folder.join(CONFIG_FILE);
    fs::write(&path, config).map_err(ModelError::io("write", &path))
}

/// The tensors of an adapter file.
#[derive(Default)]
struct Given {
    /// Adapters by the path of their module.
    adapters: HashMap<String, AdapterValues>,
    /// Parameters of the base by our path, with values as the model holds them.
    base: BTreeMap<String, Vec<f32>>,
}

/// Reads the tensors of every selected module and of every trained parameter of the base from a file.
fn read_values(
    path: &Path,
    model: &mut Model,
    config: &AdapterConfig,
    selected: &[String],
    trained: &[BaseParameter],
) -> Result<Given, ModelError> {
    let file = SafetensorsFile::open(path)?;
    let names = group_tensors(path, file.names())?;
    let mismatch = |problem: String| AdapterError::Mismatch { path: path.to_path_buf(), problem };
    let mut given = Given {
        base: trained_base::read(model, &file, &names, trained, config.trained_base().tying)?,
        ..Given::default()
    };
    let sites = model.sites_mut()?;
    if let Some(stray) = names.adapters.keys().find(|module| !selected.contains(module)) {
        let known = sites.iter().any(|(path, _)| path == stray);
        let why = if known { "its targets do not name" } else { "the model does not have" };
        return Err(mismatch(format!("it holds tensors for `{stray}`, which {why}")).into());
    }
    for (module, site) in sites {
        if !selected.contains(&module) {
            continue;
        }
        let Some(found) = names.adapters.get(&module) else {
            return Err(mismatch(format!("it has no tensors for `{module}`, which its targets name")).into());
        };
        let shapes = site.shapes(config, &module)?;
        if let Some(stray) = found.iter().find(|(tensor, _)| shapes.iter().all(|(known, _)| known != *tensor)) {
            return Err(
                mismatch(format!("`{}` belongs to another method than its configuration names", stray.1)).into()
            );
        }
        let mut values = AdapterValues::new();
        for (tensor, shape) in shapes {
            let name = tensor_name(&module, tensor);
            if !found.contains_key(&tensor) {
                return Err(mismatch(format!("it has no `{name}`")).into());
            }
            let view = file.get(&name)?;
            if view.shape != shape {
                return Err(mismatch(format!("`{name}` is {:?}, expected {shape:?}", view.shape)).into());
            }
            view.check_finite()?;
            values.insert(tensor, view.to_f32()?);
        }
        given.adapters.insert(module, values);
    }
    Ok(given)
}
