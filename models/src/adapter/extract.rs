//! Extraction of a LoRA adapter from a full fine-tune: [`extract`] approximates the difference of every linear map by
//! factors of low rank, and reports what they leave out.
//!
//! Both models are read tensor by tensor; no model is built, and memory is that of the adapter and a few tensors.
//! Differences that a LoRA adapter cannot hold (embeddings, norms, biases, the head, maps outside the targets) are
//! listed with their size.

use std::collections::BTreeMap;
use std::path::Path;

use firebrand_adapters::peft::{BaseModel, PeftConfig, tensor_name};
use firebrand_adapters::{AdapterConfig, AdapterTensor, Extract, LoraConfig, ModulePattern, Targets};
use serde::Serialize;

use super::experts;
use super::folder::write;
use super::trained_base::Tensors;
use crate::error::ModelError;
use crate::model::{Model, ModelFiles};
use crate::parameters::{ParameterInfo, Role};
use crate::weights::{Layout, Reading};

/// The models to compare, and the adapter to make of their difference.
#[derive(Debug)]
pub struct Extraction<'a> {
    /// Folder of the base model.
    pub base: &'a Path,
    /// Folder of the fine-tuned model.
    pub tuned: &'a Path,
    /// Name of the base model for `adapter_config.json`.
    pub base_model: &'a str,
    /// Rank of every module.
    pub rank: usize,
    /// The linear maps whose differences become the adapter.
    pub targets: &'a Targets,
    /// Seed of the random start of decompositions.
    pub seed: u64,
}

/// The result of an extraction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Extracted {
    /// Rank of every module.
    pub rank: usize,
    /// Frobenius norm of the differences of all modules of the adapter.
    pub difference: f64,
    /// Norm of what the adapter leaves out, divided by the norm of the differences.
    pub relative_error: f64,
    /// Share of the differences' sum of squares that the adapter holds.
    pub energy_kept: f64,
    /// The modules that differ, in the order of the model.
    pub modules: Vec<ExtractedModule>,
    /// The tensors that differ and are not in the adapter.
    pub left_out: Vec<LeftOut>,
    /// Keys of `config.json` that make the tuned model compute something else than the base.
    pub config: Vec<String>,
}

/// The extraction of one linear map.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExtractedModule {
    /// Path in files.
    pub module: String,
    /// `[out, in]`.
    pub shape: [usize; 2],
    /// Frobenius norm of the difference.
    pub difference: f64,
    /// The same divided by the norm of the base's weight; absent where that is zero.
    pub relative_difference: Option<f64>,
    /// Norm of what the adapter leaves out of the difference, divided by the norm of the difference.
    pub relative_error: f64,
    /// Share of the difference's sum of squares that the adapter holds.
    pub energy_kept: f64,
}

/// A tensor that differs and has no place in the adapter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOut {
    /// Its name in files.
    pub tensor: String,
    /// Frobenius norm of the difference.
    pub difference: f64,
    /// The same divided by the norm of the base's tensor; absent where that is zero.
    pub relative_difference: Option<f64>,
}

/// Writes the adapter to `folder`. `progress` is called with the number of tensors done and the number of all.
///
/// # Errors
/// Models of different shapes, targets that match nothing, models without a difference in their linear maps, and errors
/// of reading and writing.
pub fn extract(
    request: &Extraction<'_>,
    folder: &Path,
    progress: &dyn Fn(usize, usize),
) -> Result<Extracted, ModelError> {
    let (base, tuned) = (ModelFiles::open(request.base)?, ModelFiles::open(request.tuned)?);
    let pair = Pair { base: &base, tuned: &tuned };
    pair.check()?;
    let outline = Model::outline(request.base)?;
    let maps = match request.targets {
        Targets::AllLinear => outline.projection_paths()?,
        Targets::Pattern(_) => outline.linear_paths()?,
    };
    let selected = request.targets.select(&maps, None)?;
    experts::check(&outline, &config(request.rank, &selected), &selected)?;
    let experts: Vec<String> = outline.expert_maps()?.into_iter().map(|map| map.path).collect();
    let modules: BTreeMap<String, String> = selected
        .iter()
        .filter_map(|module| match base.rules().to_ours(&format!("{module}.weight")) {
            Some(Reading::Tensor(ours)) => Some((ours, module.clone())),
            Some(Reading::Ignored) | None => None,
        })
        .collect();

    let mut tensors = Tensors::new();
    let mut written = vec![];
    let mut found = Extracted {
        rank: request.rank,
        difference: 0.0,
        relative_error: 0.0,
        energy_kept: 1.0,
        modules: vec![],
        left_out: vec![],
        config: pair.config_keys(),
    };
    let (mut size, mut error) = (0.0, 0.0);
    let parameters = pair.parameters();
    for (done, ParameterInfo { path: name, shape, .. }) in parameters.iter().enumerate() {
        progress(done, parameters.len());
        let (before, difference) = pair.difference(name)?;
        let differs = difference.iter().any(|value| *value != 0.0);
        let module = modules.get(name);
        // PEFT reads adapters on experts only as whole sets.
        let needed = module.is_some_and(|module| experts.contains(module));
        if !differs && !needed {
            continue;
        }
        let (Some(module), &[out, input]) = (module, shape.as_slice()) else {
            let tensor = base.rules().to_theirs(name).unwrap_or_else(|| name.clone());
            let difference = norm(&difference);
            found.left_out.push(LeftOut { tensor, difference, relative_difference: relative(difference, &before) });
            continue;
        };
        let extract = Extract::new(&difference, [out, input], request.rank, request.seed, module)
            .ok_or_else(|| pair.unlike(format!("the difference of `{module}.weight` is too large for f32")))?;
        tensors.insert(tensor_name(module, AdapterTensor::A), (vec![request.rank, input], extract.factors.a));
        tensors.insert(tensor_name(module, AdapterTensor::B), (vec![out, request.rank], extract.factors.b));
        written.push(module.clone());
        if differs {
            size += extract.difference.powi(2);
            error += extract.error.powi(2);
            let (relative_error, energy_kept) = shares(extract.error.powi(2), extract.difference.powi(2));
            found.modules.push(ExtractedModule {
                module: module.clone(),
                shape: [out, input],
                difference: extract.difference,
                relative_difference: relative(extract.difference, &before),
                relative_error,
                energy_kept,
            });
        }
    }
    progress(parameters.len(), parameters.len());
    if found.modules.is_empty() {
        return Err(pair.unlike("no linear map among the targets differs".into()));
    }
    found.difference = size.sqrt();
    (found.relative_error, found.energy_kept) = shares(error, size);
    let transposed = modules
        .iter()
        .any(|(ours, module)| written.contains(module) && base.rules().layout(ours) == Layout::Transposed);
    let task = base.family().peft_task(base.network().kind());
    let base = BaseModel { name: request.base_model.into(), fan_in_fan_out: transposed, task };
    let text = PeftConfig::render(&config(request.rank, &written), &written, &base);
    write(&tensors, &text, folder)?;
    Ok(found)
}

/// A base model and the model that was trained from it.
struct Pair<'a> {
    base: &'a ModelFiles,
    tuned: &'a ModelFiles,
}

impl Pair<'_> {
    fn unlike(&self, problem: String) -> ModelError {
        let [base, tuned] = [self.base, self.tuned].map(|files| files.folder().to_path_buf());
        ModelError::Unlike { base, tuned, problem }
    }

    /// Error: another architecture, or a tensor that one of them lacks or has in another shape.
    fn check(&self) -> Result<(), ModelError> {
        let (base, tuned) = (self.base.family(), self.tuned.family());
        if base != tuned {
            return Err(self.unlike(format!("it is of type {}, the base of type {}", tuned.name(), base.name())));
        }
        let theirs = |name: &str| self.base.rules().to_theirs(name).unwrap_or_else(|| name.into());
        for ParameterInfo { path: name, .. } in self.parameters() {
            match (self.base.shape(&name), self.tuned.shape(&name)) {
                (Some(base), Some(tuned)) if base == tuned => {}
                (Some(base), Some(tuned)) => {
                    return Err(self.unlike(format!("`{}` is {tuned:?}, in the base {base:?}", theirs(&name))));
                }
                (Some(_), None) => return Err(self.unlike(format!("it has no `{}`", theirs(&name)))),
                (None, _) => return Err(self.unlike(format!("the base has no `{}`", theirs(&name)))),
            }
        }
        Ok(())
    }

    /// The parameters of the base; and the tuned model's own head, if only the base's head is tied.
    fn parameters(&self) -> Vec<ParameterInfo> {
        let known = |name: &str| self.base.parameters().iter().any(|info| info.path == name);
        let more = self.tuned.parameters().iter().filter(|info| !known(&info.path));
        let mut all: Vec<ParameterInfo> = self.base.parameters().iter().chain(more).cloned().collect();
        // A head that is tied in both models is compared once, as the embedding.
        if self.base.is_tied() && self.tuned.is_tied() {
            all.retain(|info| info.role != Role::Head);
        }
        all
    }

    /// The base's values, and their differences in the tuned model.
    fn difference(&self, name: &str) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
        let (before, mut after) = (self.base.values(name)?, self.tuned.values(name)?);
        after.iter_mut().zip(&before).for_each(|(after, before)| *after -= before);
        Ok((before, after))
    }

    /// Keys that differ, if the networks differ in more than training settings and the storage of the head.
    fn config_keys(&self) -> Vec<String> {
        if self.base.network().computes_as(self.tuned.network()) {
            return vec![];
        }
        let [base, tuned] = [self.base, self.tuned].map(|files| files.config().map());
        let inert = ["_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "use_cache"];
        let mut keys: Vec<String> = base.keys().chain(tuned.keys()).cloned().collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| base.get(key) != tuned.get(key) && !inert.contains(&key.as_str()));
        keys
    }
}

/// The relative error and the share of energy kept, from sums of squares.
fn shares(error: f64, size: f64) -> (f64, f64) {
    if size > 0.0 { ((error / size).sqrt(), 1.0 - error / size) } else { (0.0, 1.0) }
}

fn relative(difference: f64, before: &[f32]) -> Option<f64> {
    let size = norm(before);
    (size > 0.0).then(|| difference / size)
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

fn config(rank: usize, modules: &[String]) -> AdapterConfig {
    AdapterConfig::Lora(LoraConfig::new(rank, rank as f64, Targets::Pattern(ModulePattern::Suffixes(modules.to_vec()))))
}
