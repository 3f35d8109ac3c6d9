//! PEFT adapter folders, put on a model and written from it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use burn::module::Param;
use firebrand_adapters::peft::{CONFIG_FILE, LoraTensor, PeftConfig, TENSOR_FILE, pair_tensors, tensor_name};
use firebrand_adapters::{Adapter, AdapterConfig, AdapterError, LoraConfig, LoraFactors, Targets};

use crate::causal_lm::{CausalLm, host_values};
use crate::error::ModelError;
use crate::expert_adapters;
use crate::parameters::AnyTensor;
use crate::weights::{CheckpointPlan, Dtype, PlanOptions, SafetensorsFile, TensorSpec};

/// Where an adapter's first values come from.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// The method's own initial values.
    Fresh {
        /// Seed of them.
        seed: u64,
    },
    /// The tensors of an adapter folder, which must fit the configuration.
    Folder(&'a Path),
}

/// Puts trainable adapters on the modules that `config` selects; gives their paths.
///
/// # Errors
/// A selection that matches nothing, or tensors that do not fit the selected modules one to one.
pub fn attach(model: &mut CausalLm, config: &AdapterConfig, start: Start<'_>) -> Result<Vec<String>, ModelError> {
    let AdapterConfig::Lora(lora) = config;
    let modules = match lora.targets {
        Targets::AllLinear => model.projection_paths()?,
        Targets::Pattern(_) => model.linear_paths()?,
    };
    let selected = lora.targets.select(&modules, lora.exclude.as_ref())?;
    if let Start::Fresh { .. } = start {
        expert_adapters::check(model, lora, &selected)?;
    }
    let device = model.decoder().device();
    let mut given = match start {
        Start::Fresh { .. } => HashMap::new(),
        Start::Folder(folder) => read_factors(&folder.join(TENSOR_FILE), model, lora, &selected)?,
    };
    for (path, linear) in model.linears()? {
        if !selected.contains(&path) {
            continue;
        }
        let shape = linear.shape();
        let factors = match (start, given.remove(&path)) {
            (_, Some(factors)) => factors,
            (Start::Fresh { seed }, None) => lora.initial(seed, &path, shape)?,
            // `read_factors` gives one pair a selected module.
            (Start::Folder(_), None) => continue,
        };
        linear.attach(Adapter::Lora(lora.build(&path, shape, factors, &device)?));
    }
    Ok(selected)
}

/// Reads an adapter folder and puts it on the model.
///
/// # Errors
/// A folder that is no adapter, a meaning that is not implemented, or tensors that do not fit the model one to one.
pub fn load(model: &mut CausalLm, folder: &Path) -> Result<PeftConfig, ModelError> {
    let config = read_config(folder)?;
    attach(model, &AdapterConfig::Lora(config.lora.clone()), Start::Folder(folder))?;
    Ok(config)
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
pub fn save(model: &mut CausalLm, lora: &LoraConfig, base_model: &str, folder: &Path) -> Result<(), ModelError> {
    let mut modules = vec![];
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for (path, adapter) in model.adapters()? {
        let Adapter::Lora(factors) = adapter;
        for (kind, value) in [(LoraTensor::A, &factors.a), (LoraTensor::B, &factors.b)] {
            let shape = value.lazy_shape().to_vec();
            tensors.insert(tensor_name(&path, kind), (shape, host_values(&AnyTensor::Matrix(Param::val(value)))));
        }
        modules.push(path);
    }
    let specs = tensors
        .iter()
        .map(|(name, (shape, _))| TensorSpec { name: name.clone(), dtype: Dtype::F32, shape: shape.clone() })
        .collect();
    let options = PlanOptions { base_name: "adapter_model".into(), max_shard_bytes: u64::MAX, ..Default::default() };
    CheckpointPlan::new(specs, &options)?.write(folder, |spec| {
        let values = tensors.get(&spec.name).map(|(_, values)| values.as_slice()).unwrap_or_default();
        Ok(Cow::Owned(spec.dtype.encode(values).unwrap_or_default()))
    })?;
    let transposed = model.stored_transposed(&modules)?;
    let path = folder.join(CONFIG_FILE);
    fs::write(&path, PeftConfig::render(lora, &modules, base_model, transposed)).map_err(ModelError::io("write", &path))
}

/// The factors of every selected module from a tensor file.
fn read_factors(
    path: &Path,
    model: &mut CausalLm,
    lora: &LoraConfig,
    selected: &[String],
) -> Result<HashMap<String, LoraFactors>, ModelError> {
    let file = SafetensorsFile::open(path)?;
    let pairs = pair_tensors(path, file.names())?;
    let mismatch = |problem: String| AdapterError::Mismatch { path: path.to_path_buf(), problem };
    if let Some(stray) = pairs.keys().find(|module| !selected.contains(module)) {
        let why =
            if model.linear_paths()?.contains(stray) { "its targets do not name" } else { "the model does not have" };
        return Err(mismatch(format!("it holds tensors for `{stray}`, which {why}")).into());
    }
    let mut factors = HashMap::new();
    for (module, linear) in model.linears()? {
        if !selected.contains(&module) {
            continue;
        }
        let Some((a, b)) = pairs.get(&module) else {
            return Err(mismatch(format!("it has no tensors for `{module}`, which its targets name")).into());
        };
        let [out, input] = linear.shape();
        let rank = lora.rank_at(&module)?;
        let read = |name: &str, shape: [usize; 2]| {
            let view = file.get(name)?;
            if view.shape != shape {
                let problem = format!("`{name}` is {:?}, expected {shape:?}", view.shape);
                return Err(ModelError::from(mismatch(problem)));
            }
            view.check_finite()?;
            view.to_f32()
        };
        factors.insert(module, LoraFactors { a: read(a, [rank, input])?, b: read(b, [out, rank])? });
    }
    Ok(factors)
}
