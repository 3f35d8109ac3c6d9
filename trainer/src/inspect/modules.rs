//! `firebrand adapter inspect`: measures how much an adapter changes each module, without the base model. See
//! [`inspect_adapter`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firebrand_adapters::{AdapterConfig, AdapterError, AdapterTensor, LoraConfig, LoraFactors, Spectrum};
use firebrand_models::ModelError;
use firebrand_models::adapter_folder::{open_tensors, read_config};
use firebrand_models::adapter_of_pipeline;
use firebrand_models::weights::WeightsFile;
use serde::Serialize;

use crate::error::Error;

/// A report on an adapter folder, module by module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterModules {
    /// The folder as given.
    pub path: PathBuf,
    /// The method, as recipes name it.
    pub method: &'static str,
    /// The base model, as the folder names it.
    pub base_model: Option<String>,
    /// Number of values in all tensors.
    pub parameters: u64,
    /// Sums over all modules.
    pub summary: Summary,
    /// Names of base tensors that were trained beside the adapter and are saved with it.
    pub trained_base: Vec<String>,
    /// Sorted by path.
    pub modules: Vec<ModuleReport>,
}

/// Sums over all modules. The change of a module is [`ModuleReport::change`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Root of the sum of squares of all changes.
    pub change: f64,
    /// The module with the largest change.
    pub largest: Option<String>,
    /// The module with the smallest change.
    pub smallest: Option<String>,
    /// Modules that change nothing, because they were never trained.
    pub never_trained: Vec<String>,
}

/// A report on one module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleReport {
    /// Path in the model.
    pub module: String,
    /// Frobenius norm of `s B A`; for IA3 the norm of the factors minus 1. DoRA's magnitudes are not included, because
    /// the lengths they started at are not known without the base.
    pub change: f64,
    /// The factors of LoRA and DoRA.
    #[serde(flatten)]
    pub low_rank: Option<LowRank>,
    /// DoRA's magnitudes: the lengths of the weight's rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub magnitude: Option<Spread>,
    /// IA3's factors on inputs or outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factors: Option<Spread>,
}

/// A report on the factors of LoRA or DoRA on a module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LowRank {
    /// `[out, in]` of the weight.
    pub shape: [usize; 2],
    /// The rank, as in the file.
    pub rank: usize,
    /// `alpha`, as used for this module.
    pub alpha: f64,
    /// The scale `s`.
    pub scale: f64,
    /// Frobenius norm of `A`.
    pub a_norm: f64,
    /// Frobenius norm of `B`.
    pub b_norm: f64,
    /// Singular values of `s B A`, in falling order.
    pub singular_values: Vec<f64>,
    /// See [`Spectrum::effective_rank`].
    pub effective_rank: f64,
}

/// Statistics of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
}

/// Reports on the adapter in `folder`.
///
/// # Errors
/// A folder that is not an adapter, or tensors that do not match its configuration.
pub fn inspect_adapter(folder: &Path) -> Result<AdapterModules, Error> {
    let config = read_config(folder)?;
    let file = open_tensors(folder)?;
    let groups = adapter_of_pipeline::group(&file).map_err(ModelError::from)?;
    if config.restart.is_some() {
        return Err(Error::Request {
            problem: format!(
                "{}: the adapter began at a part of the base's weights (init_lora_weights), so its own tensors do not say what it changes",
                folder.display()
            ),
            help: "merge it into its base, and extract the difference of both with `firebrand adapter extract`".into(),
        });
    }
    let mut modules = vec![];
    let mut never_trained = vec![];
    for (module, names) in &groups.adapters {
        let tensors = Tensors { file: &file, module, names };
        let (report, zero) = match &config.method {
            AdapterConfig::Lora(lora) | AdapterConfig::Dora(lora) => low_rank(&tensors, lora)?,
            AdapterConfig::Ia3(_) => scaled(&tensors)?,
        };
        if zero {
            never_trained.push(module.clone());
        }
        modules.push(report);
    }
    let by_change = |left: &&ModuleReport, right: &&ModuleReport| left.change.total_cmp(&right.change);
    let name = |report: &ModuleReport| report.module.clone();
    let summary = Summary {
        change: modules.iter().map(|report| report.change.powi(2)).sum::<f64>().sqrt(),
        largest: modules.iter().max_by(by_change).map(name),
        smallest: modules.iter().min_by(by_change).map(name),
        never_trained,
    };
    Ok(AdapterModules {
        path: folder.to_path_buf(),
        method: config.method.kind(),
        base_model: config.base_model,
        parameters: file.tensors().map(|view| view.elements() as u64).sum(),
        summary,
        trained_base: groups.base.into_keys().chain(groups.rows.into_keys()).collect(),
        modules,
    })
}

struct Tensor {
    shape: Vec<usize>,
    /// Row-major.
    values: Vec<f32>,
}

/// The tensors of one module.
struct Tensors<'a> {
    file: &'a WeightsFile,
    module: &'a str,
    names: &'a BTreeMap<AdapterTensor, String>,
}

impl Tensors<'_> {
    fn read(&self, tensor: AdapterTensor) -> Result<Option<Tensor>, ModelError> {
        let Some(name) = self.names.get(&tensor) else { return Ok(None) };
        let view = self.file.get(name)?;
        view.check_finite()?;
        Ok(Some(Tensor { shape: view.shape.to_vec(), values: view.to_f32()? }))
    }

    fn mismatch(&self, problem: String) -> ModelError {
        AdapterError::Mismatch {
            path: self.file.path().to_path_buf(),
            problem: format!("`{}`: {problem}", self.module),
        }
        .into()
    }
}

/// The report on a module, and whether the module changes nothing.
fn low_rank(tensors: &Tensors<'_>, lora: &LoraConfig) -> Result<(ModuleReport, bool), ModelError> {
    let rank = lora.rank_at(tensors.module)?;
    // On an embedding the factors belong to the map from one-hot ids.
    let (a, b) = match tensors.names.contains_key(&AdapterTensor::EmbeddingA) {
        true => (AdapterTensor::EmbeddingA, AdapterTensor::EmbeddingB),
        false => (AdapterTensor::A, AdapterTensor::B),
    };
    let (Some(a), Some(b)) = (tensors.read(a)?, tensors.read(b)?) else {
        return Err(tensors.mismatch("it has no lora_A and lora_B".into()));
    };
    let (&[rows, input], &[out, columns]) = (a.shape.as_slice(), b.shape.as_slice()) else {
        return Err(tensors.mismatch(format!("factors {:?} and {:?} are no matrices", a.shape, b.shape)));
    };
    if rows != rank || columns != rank || input == 0 || out == 0 {
        return Err(tensors.mismatch(format!("factors {:?} and {:?}, expected rank {rank}", a.shape, b.shape)));
    }
    let scale = lora.scale_at(tensors.module)?;
    let found = Spectrum::new(&LoraFactors { a: a.values, b: b.values }, rank, scale)
        .ok_or_else(|| tensors.mismatch("the product of its factors is not finite".into()))?;
    let magnitude = tensors.read(AdapterTensor::Magnitude)?.map(|tensor| Spread::of(&tensor.values));
    let report = ModuleReport {
        module: tensors.module.into(),
        change: found.norm(),
        magnitude,
        factors: None,
        low_rank: Some(LowRank {
            shape: [out, input],
            rank,
            alpha: lora.alpha_at(tensors.module)?,
            scale,
            a_norm: found.a,
            b_norm: found.b,
            effective_rank: found.effective_rank(),
            singular_values: found.values.clone(),
        }),
    };
    Ok((report, found.is_zero(scale)))
}

fn scaled(tensors: &Tensors<'_>) -> Result<(ModuleReport, bool), ModelError> {
    let Some(Tensor { values, .. }) = tensors.read(AdapterTensor::Scale)? else {
        return Err(tensors.mismatch("it has no ia3_l".into()));
    };
    let change = values.iter().map(|value| (f64::from(*value) - 1.0).powi(2)).sum::<f64>().sqrt();
    let factors = Some(Spread::of(&values));
    let report = ModuleReport { module: tensors.module.into(), change, low_rank: None, magnitude: None, factors };
    Ok((report, change == 0.0))
}

impl Spread {
    fn of(values: &[f32]) -> Self {
        let count = values.len().max(1) as f64;
        let values = || values.iter().map(|value| f64::from(*value));
        let mean = values().sum::<f64>() / count;
        Self {
            min: values().reduce(f64::min).unwrap_or(0.0),
            max: values().reduce(f64::max).unwrap_or(0.0),
            mean,
            deviation: (values().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt(),
        }
    }
}
