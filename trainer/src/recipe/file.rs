//! A recipe as written: the top-level keys and one type per section.

use std::path::PathBuf;

use firebrand_datasets::DataConfig;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::adapter::AdapterSection;
use super::checkpoint::CheckpointSection;
use super::device::DeviceName;
use super::dtype::{ComputeDtype, StoredDtype};
use super::evaluation::EvalSection;
use super::objective::ObjectiveSection;
use super::optimizer::Optimizer;
use super::output::{ExportSection, Log, Sample};
use super::quantization::Quantization;
use super::schedule::ScheduleSection;
use super::train::TrainSection;
use super::vocabulary::VocabularyRecipe;
use super::{data, default_values};

/// A recipe for firebrand. Only `model`, `output` and one `[[data.train]]` are required.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "firebrand recipe")]
pub(super) struct RecipeFile {
    /// The base model: a folder, or a hub id `owner/name[@revision]`.
    #[schemars(example = &"owner/name")]
    pub model: String,
    /// Where the weights start: the model's own, or drawn anew from its `config.json` and the seed (full fine-tuning only).
    #[serde(default)]
    #[schemars(example = Init::Random)]
    pub init: Init,
    /// The run directory, relative to the current one. Must be empty or absent.
    #[schemars(example = &"runs/second")]
    pub output: PathBuf,
    /// Decides every random choice: initial adapter or weights, order of rows, dropout.
    #[serde(default = "default_values::seed")]
    #[schemars(range(max = i64::MAX), example = 7)]
    pub seed: u64,
    /// Where to compute.
    #[serde(default = "default_values::device")]
    #[schemars(with = "String", regex(pattern = DeviceName::PATTERN), example = &"cuda:1")]
    pub device: DeviceName,
    /// What products read their operands in: linear maps, attention and output head. `bf16` is faster where the processor has
    /// instructions for it, which `auto` finds out; all else is computed in f32, adapters and optimiser among it.
    #[serde(default = "default_values::dtype")]
    #[schemars(example = ComputeDtype::Bf16)]
    pub dtype: ComputeDtype,
    /// Lets devices whose matrix units want it round the operands of f32 products to TF32, which has 10 bits of mantissa in place of 23.
    /// It is faster on NVIDIA's cards since 2020; on other devices and on the CPU it changes nothing.
    #[serde(default)]
    #[schemars(example = true)]
    pub allow_tf32: bool,
    /// How frozen weights are held in memory. When not given: in f32, or with `dtype` = `bf16` as their files have them if that is bf16.
    /// Adapter runs only: a full run freezes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = StoredDtype::Bf16)]
    pub base_dtype: Option<StoredDtype>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterSection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<VocabularyRecipe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    #[schemars(transform = constrain_data)]
    pub data: DataConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveSection>,
    #[serde(default)]
    pub train: TrainSection,
    #[serde(default)]
    pub optimizer: Optimizer,
    #[serde(default)]
    pub schedule: ScheduleSection,
    #[serde(default)]
    pub eval: EvalSection,
    #[serde(default)]
    pub checkpoint: CheckpointSection,
    #[serde(default)]
    pub log: Log,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
    #[serde(default)]
    pub export: ExportSection,
}

/// Where the weights start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// From the model's files.
    #[default]
    Pretrained,
    /// Drawn anew with the seed and the `initializer_range` of `config.json`.
    Random,
}

fn constrain_data(schema: &mut Schema) {
    data::constrain(schema);
}
