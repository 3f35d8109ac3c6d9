//! Combination of adapter folders: [`merge`] makes one adapter folder of several, without their base model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use firebrand_adapters::peft::{BaseModel, PeftConfig, Task, tensor_name};
use firebrand_adapters::{
    AdapterConfig, AdapterError, AdapterTensor, Combination, LoraConfig, LoraFactors, ModulePattern, Part, Targets,
};

use super::folder::{open_tensors, read_config, write};
use super::pipeline::group;
use crate::error::ModelError;
use crate::weights::WeightsFile;

/// An adapter folder with its weight in a combination.
#[derive(Debug, Clone, Copy)]
pub struct Weighted<'a> {
    /// The folder.
    pub folder: &'a Path,
    /// Its weight; may be negative.
    pub weight: f64,
}

/// Writes the combination of LoRA adapters to `out` and returns its rank. A module that only some adapters have is
/// combined from those.
///
/// # Errors
/// A folder without a LoRA adapter, adapters that cannot be combined by this method, or errors of writing.
pub fn merge(adapters: &[Weighted<'_>], method: Combination, out: &Path) -> Result<usize, ModelError> {
    let opened = adapters.iter().map(|adapter| Opened::new(*adapter)).collect::<Result<Vec<_>, _>>()?;
    let modules: BTreeSet<&String> = opened.iter().flat_map(|adapter| adapter.modules.keys()).collect();
    let mut combined = BTreeMap::new();
    for module in modules {
        let found = opened.iter().filter_map(|adapter| adapter.part(module)).collect::<Result<Vec<_>, _>>()?;
        let Some(shape) = found.first().map(|(_, shape)| *shape) else { continue };
        if found.iter().any(|(_, other)| *other != shape) {
            let problem =
                format!("`{module}` has another shape in one adapter than in another; are their bases the same?");
            return Err(AdapterError::Several { problem }.into());
        }
        let parts: Vec<Part> = found.into_iter().map(|(part, _)| part).collect();
        combined.insert(module.clone(), (method.combine(&parts, module, shape)?, shape));
    }
    let rank = combined.values().map(|((_, rank), _)| *rank).max().unwrap_or(1);
    let mut tensors = BTreeMap::new();
    for (module, ((factors, own), [rows, columns])) in &combined {
        // All modules get one rank: missing rows and columns are zero.
        let mut a = factors.a.clone();
        a.resize(rank * columns, 0.0);
        let padded = |row: &[f32]| row.iter().copied().chain(std::iter::repeat_n(0.0, rank - own)).collect::<Vec<_>>();
        let b = factors.b.chunks(*own).flat_map(padded).collect();
        let names = opened.iter().find_map(|adapter| adapter.modules.get(module));
        let (a_name, b_name) = names.map_or((AdapterTensor::A, AdapterTensor::B), factors_of);
        tensors.insert(tensor_name(module, a_name), (vec![rank, *columns], a));
        tensors.insert(tensor_name(module, b_name), (vec![*rows, rank], b));
    }
    let modules: Vec<String> = combined.into_keys().collect();
    let config = LoraConfig::new(rank, rank as f64, Targets::Pattern(ModulePattern::Suffixes(modules.clone())));
    // There is at least one adapter.
    let base = opened.first().map(|adapter| adapter.config.base());
    let base = base.unwrap_or_else(|| BaseModel { name: String::new(), fan_in_fan_out: false, task: Task::CausalLm });
    let text = PeftConfig::render(&AdapterConfig::Lora(config), &modules, &base);
    write(&tensors, &text, out)?;
    Ok(rank)
}

struct Opened {
    weight: f64,
    config: PeftConfig,
    lora: LoraConfig,
    file: WeightsFile,
    modules: BTreeMap<String, BTreeMap<AdapterTensor, String>>,
}

/// The names of a module's two factors: adapters of a token table have names of their own.
fn factors_of(names: &BTreeMap<AdapterTensor, String>) -> (AdapterTensor, AdapterTensor) {
    match names.contains_key(&AdapterTensor::EmbeddingA) {
        true => (AdapterTensor::EmbeddingA, AdapterTensor::EmbeddingB),
        false => (AdapterTensor::A, AdapterTensor::B),
    }
}

impl Opened {
    fn new(adapter: Weighted<'_>) -> Result<Self, ModelError> {
        let config = read_config(adapter.folder)?;
        let AdapterConfig::Lora(lora) = config.method.clone() else {
            let problem = format!("{} is no LoRA adapter but {}", adapter.folder.display(), config.method.kind());
            return Err(AdapterError::Several { problem }.into());
        };
        let file = open_tensors(adapter.folder)?;
        if config.changes_base() {
            let folder = adapter.folder.display();
            let problem = format!(
                "{folder} holds changed parts of its base (modules_to_save, bias, trainable_token_indices, or a start taken out of its weights), of which no sum is defined"
            );
            return Err(AdapterError::Several { problem }.into());
        }
        let modules = group(&file)?.adapters;
        Ok(Self { weight: adapter.weight, config, lora, file, modules })
    }

    /// The adapter's share of a module and the shape of the module's weight; absent if it has no adapter there.
    fn part(&self, module: &str) -> Option<Result<(Part, [usize; 2]), ModelError>> {
        let names = self.modules.get(module)?;
        Some(self.read(module, names))
    }

    fn read(&self, module: &str, names: &BTreeMap<AdapterTensor, String>) -> Result<(Part, [usize; 2]), ModelError> {
        let mismatch = |problem| AdapterError::Mismatch { path: self.file.path().to_path_buf(), problem };
        let rank = self.lora.rank_at(module)?;
        let read = |tensor| {
            let name = names.get(&tensor).ok_or_else(|| mismatch(format!("`{module}` lacks a factor")))?;
            let view = self.file.get(name)?;
            view.check_finite()?;
            Ok::<_, ModelError>((view.shape.to_vec(), view.to_f32()?))
        };
        let (a, b) = factors_of(names);
        let ((a_shape, a), (b_shape, b)) = (read(a)?, read(b)?);
        match (a_shape.as_slice(), b_shape.as_slice()) {
            (&[rows, input], &[out, columns]) if rows == rank && columns == rank => {
                let scale = self.lora.scale_at(module)?;
                Ok((Part { factors: LoraFactors { a, b }, rank, scale, weight: self.weight }, [out, input]))
            }
            _ => {
                Err(mismatch(format!("`{module}` has factors {a_shape:?} and {b_shape:?}, expected rank {rank}"))
                    .into())
            }
        }
    }
}
