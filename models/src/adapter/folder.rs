//! PEFT adapter folders: [`attach`] and [`load`] put adapters on a model, [`save`] writes them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use firebrand_adapters::peft::{BaseModel, CONFIG_FILE, PICKLE_FILE, PeftConfig, TENSOR_FILE, Task, tensor_name};
use firebrand_adapters::{Adapter, AdapterConfig, AdapterError, AdapterValues, LoraConfig, LoraInit, Targets, Tying};

use super::experts;
use super::module_names;
use super::pipeline::{self, group};
use super::site::Original;
use super::token_rows;
use super::trained_base::{self, BaseParameter, Tensors};
use super::vocabulary;
use crate::error::ModelError;
use crate::families::SCORE_MODULES;
use crate::model::{Model, ModelFiles, encode_finite};
use crate::weights::{CheckpointPlan, Dtype, PlanOptions, TensorSpec, WeightsFile};
use crate::what_is_here::{Found, Wanted};

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
    /// The tensors of a finished adapter: rows of the token table among them are the base's already.
    Finished {
        /// The open file.
        file: &'a WeightsFile,
        /// The start that was taken out of the base's weights and has to be made again.
        restart: Option<LoraInit>,
    },
}

/// Puts trainable adapters on the modules that `config` selects, and makes the parameters of the base that it trains
/// trainable. Returns the paths of the adapted modules.
///
/// # Errors
/// A selection that matches nothing, or tensors that do not match the selected modules one to one.
pub fn attach(model: &mut Model, config: &AdapterConfig, start: Start<'_>) -> Result<Vec<String>, ModelError> {
    if let Start::Folder(folder) = start {
        let file = open_tensors(folder)?;
        vocabulary::fit(model, &file, &group(&file)?)?;
    }
    let config = &module_names::in_memory(model, config)?;
    let selected = config.select(&selectable(model, config)?)?;
    if let Start::Fresh { .. } = start {
        experts::check(model, config, &selected)?;
        module_names::check(model, &selected)?;
    }
    check_tie(model, config, &selected)?;
    let trained = trained_base::select(model, config.trained_base(), &selected)?;
    let device = model.device();
    let mut given = match start {
        Start::Fresh { .. } => Given::default(),
        Start::Folder(folder) => {
            let file = open_tensors(folder)?;
            token_rows::refuse(file.path(), &group(&file)?.rows)?;
            read_values(&file, model, config, &selected, &trained)?
        }
        Start::Finished { file, .. } => read_values(file, model, config, &selected, &trained)?,
    };
    let restarted = if let (Start::Finished { restart: Some(init), .. }, AdapterConfig::Lora(lora)) = (start, config) {
        Some(LoraConfig { init, ..lora.clone() })
    } else {
        None
    };
    let built = restarted.clone().map(AdapterConfig::Lora);
    for (path, site) in model.sites_mut()? {
        if !selected.contains(&path) {
            continue;
        }
        let values = match (start, given.adapters.remove(&path)) {
            (_, Some(values)) => match &restarted {
                Some(lora) => site.relative_to_start(lora, &path, values)?,
                None => values,
            },
            (Start::Fresh { seed, original }, None) => {
                let needed = original.filter(|_| config.starts_at_what_quantization_lost());
                let read = needed.map(|files| |path: &str| files.values_of_map(path));
                site.initial(config, seed, &path, read.as_ref().map(|read| read as &Original<'_>))?
            }
            // `read_values` returns a set of tensors for each selected module.
            (Start::Folder(_) | Start::Finished { .. }, None) => continue,
        };
        site.build(built.as_ref().unwrap_or(config), &path, values, &device)?;
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
    attach_finished(model, config, folder)
}

/// Puts a finished adapter on the model. Names in its configuration that match nothing become notes of the model: its
/// tensors decide, and each of them must fit.
fn attach_finished(model: &mut Model, mut config: PeftConfig, folder: &Path) -> Result<PeftConfig, ModelError> {
    if let Some(classes) = classes(folder)? {
        // The scores are in the folder, so what they are drawn from is of no consequence.
        model.become_classifier(classes, 0)?;
    }
    config.method = module_names::in_memory(model, &config.method)?;
    let tensors = trained_base::names(model)?;
    let tensors: Vec<&str> = tensors.iter().map(String::as_str).collect();
    let (method, unmatched) =
        config.method.matching(&selectable(model, &config.method)?, &tensors).map_err(|error| match error {
            AdapterError::NoMatch { targets: found, available, .. }
            | AdapterError::UnusedTarget { target: found, available, .. } => AdapterError::Mismatch {
                path: folder.join(CONFIG_FILE),
                problem: format!(
                    "no module of the model matches `target_modules` ({found}); its linear modules end in: {available}"
                ),
            },
            error => error,
        })?;
    config.method = method;
    let file = open_tensors(folder)?;
    let names = group(&file)?;
    vocabulary::fit(model, &file, &names)?;
    token_rows::apply(model, &config, &file, &names.rows)?;
    attach(model, &config.method, Start::Finished { file: &file, restart: config.restart })?;
    if let (Some(init), AdapterConfig::Lora(lora)) = (config.restart, &mut config.method) {
        lora.init = init;
    }
    // PEFT names the heads of all kinds of classifiers.
    let classifies = config.base().task == Task::Classification;
    let is_usual = |name: &str| classifies && name == "classifier";
    for unmatched in unmatched.into_iter().filter(|unmatched| !is_usual(&unmatched.name)) {
        let folder = folder.display();
        model.note(format!(
            "the adapter in {folder}: {unmatched} matches nothing in the model, and no tensor of it is there"
        ));
    }
    Ok(config)
}

/// The paths of the modules among which the targets of `config` choose.
fn selectable(model: &Model, config: &AdapterConfig) -> Result<Vec<String>, ModelError> {
    match config.targets() {
        Targets::AllLinear => model.projection_paths(),
        Targets::Pattern(_) => model.site_paths(),
    }
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
    attach_finished(model, config, folder)
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
        if config.changes_base()
            && let Some(other) = changed_base.replace(folder)
        {
            let problem = format!(
                "both {} and {} hold changed parts of the base (modules_to_save, bias, trainable_token_indices, or a start taken \
                 out of its weights); only one of them can",
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

/// Reads `adapter_config.json`, or the settings of a pipeline's LoRA file.
///
/// # Errors
/// As [`load`].
pub fn read_config(folder: &Path) -> Result<PeftConfig, ModelError> {
    if let Some(file) = pipeline::find(folder) {
        return pipeline::read_config(&file);
    }
    let path = folder.join(CONFIG_FILE);
    let read = || -> Result<PeftConfig, ModelError> {
        let text = fs::read_to_string(&path).map_err(ModelError::io("read", &path))?;
        Ok(PeftConfig::parse(&path, &text)?)
    };
    read().map_err(|error| Found::error(folder, Wanted::Adapter).unwrap_or(error))
}

/// The number of classes that an adapter scores; absent where it holds no scores.
///
/// # Errors
/// Those of [`open_tensors`]; tensors that belong to no module.
pub fn classes(folder: &Path) -> Result<Option<usize>, ModelError> {
    let file = open_tensors(folder)?;
    let names = group(&file)?;
    let name = SCORE_MODULES.iter().find_map(|module| names.base.get(&format!("{module}.weight")));
    let scores = name.map(|name| file.get(name)).transpose()?;
    Ok(scores.and_then(|view| view.shape.first().copied()).filter(|classes| *classes > 0))
}

/// Opens the tensors of an adapter folder: `adapter_model.safetensors`, or, where there is none, `adapter_model.bin`, of
/// which only tensors are read. The order is PEFT's. Where there is neither, the LoRA file of a pipeline.
///
/// # Errors
/// Neither file is there; a damaged file, or one that holds more than tensors.
pub fn open_tensors(folder: &Path) -> Result<WeightsFile, ModelError> {
    // A dangling link is a file that cannot be opened, not a missing one.
    let found = [TENSOR_FILE, PICKLE_FILE]
        .map(|name| folder.join(name))
        .into_iter()
        .find(|path| path.is_symlink() || path.exists())
        .or_else(|| pipeline::find(folder));
    match found {
        Some(path) => WeightsFile::open(path),
        None => Err(Found::error(folder, Wanted::Adapter).unwrap_or_else(|| ModelError::NoWeights {
            path: folder.to_path_buf(),
            looked_for: vec![TENSOR_FILE, PICKLE_FILE],
            present: names_in(folder),
        })),
    }
}

/// The names in a folder, for messages.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(1_000);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Writes the adapters of the model, and the parameters of the base trained beside them, as a PEFT folder in f32.
///
/// # Errors
/// Errors of writing, with the path.
pub fn save(model: &Model, config: &AdapterConfig, base_model: &str, folder: &Path) -> Result<(), ModelError> {
    let config = &module_names::in_memory(model, config)?;
    let mut modules = vec![];
    let mut tensors = Tensors::new();
    for (path, placed) in model.adapters()? {
        for (kind, shape, values) in placed.tensors() {
            let shape = pipeline::shape_in_files(model, &placed.parameter, kind, shape);
            tensors.insert(tensor_name(&path, kind), (shape, values));
        }
        modules.push(path);
    }
    let trained = trained_base::select(model, config.trained_base(), &modules)?;
    tensors.extend(trained_base::tensors(model, &trained));
    let transposed = model.stored_transposed(&modules)?;
    let base =
        BaseModel { name: base_model.into(), fan_in_fan_out: transposed, task: model.family().peft_task(model.kind()) };
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
        encode_finite(&spec.name, values, spec.dtype).map(Cow::Owned)
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
    file: &WeightsFile,
    model: &mut Model,
    config: &AdapterConfig,
    selected: &[String],
    trained: &[BaseParameter],
) -> Result<Given, ModelError> {
    let path = file.path();
    let names = module_names::of_file(model, group(file)?);
    let mismatch = |problem: String| AdapterError::Mismatch { path: path.to_path_buf(), problem };
    let mut given = Given {
        base: trained_base::read(model, file, &names, trained, config.trained_base().tying)?,
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
            let Some(name) = found.get(&tensor) else {
                return Err(mismatch(format!("it has no `{}`", tensor_name(&module, tensor))).into());
            };
            let view = file.get(name)?;
            // Factors of convolutions of one pixel have two more dimensions.
            let found: &[usize] =
                view.shape.strip_suffix(&[1, 1]).filter(|_| view.shape.len() == 4).unwrap_or(view.shape);
            if found != shape {
                return Err(mismatch(format!("`{name}` is {:?}, expected {shape:?}", view.shape)).into());
            }
            view.check_finite()?;
            values.insert(tensor, view.to_f32()?);
        }
        given.adapters.insert(module, values);
    }
    Ok(given)
}
