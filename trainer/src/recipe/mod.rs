//! Recipes: the TOML file that says everything about a run.
//!
//! What is written (`RecipeFile`, one type per section) is checked against its own JSON Schema, then against itself, and
//! becomes a [`Recipe`], in which every default is decided and every either-or is an enum. The way back, [`Recipe::to_toml`],
//! writes every default out. The schema, the reference page and the errors all come from the types' documentation.
//! Not here: whether targets exist in the model or rows in the data; [`Loaded::complain`] lets those checks point at the line.

mod adapter;
mod changes;
mod checkpoint;
mod conflicts;
mod data;
mod default_values;
mod defaults;
mod device;
mod document;
mod dtype;
mod error;
mod evaluation;
mod expectation;
mod file;
mod foreign;
mod inlined;
mod load;
mod model;
mod moved;
mod objective;
mod optimizer;
mod other_files;
mod output;
mod overrides;
mod paths;
mod quantization;
mod reference;
mod resolved;
mod schedule;
mod schema;
mod score;
#[cfg(test)]
mod tests;
mod train;
mod validate;
mod vocabulary;

use std::path::PathBuf;

pub use adapter::{Bias, Exclude, Ia3Recipe, LoraInit, LoraRecipe, Method, ModuleRegex, TargetPreset, Targets};
pub use changes::{Change, Effect};
pub use checkpoint::{BestMetric, Checkpoint};
pub use device::{AdapterChoice, AdapterKind, DeviceName, GraphicsApi};
pub use dtype::{ComputeDtype, StoredDtype, WrittenDtype};
pub use error::{Complaint, ComplaintKind, RecipeError};
pub use evaluation::{EarlyStopping, Eval, EvaluatedWeights};
pub use file::Init;
pub use load::Loaded;
pub use model::ModelSource;
pub use objective::{
    ContrastiveRecipe, DenoiseRecipe, DistillRecipe, DpoRecipe, DpoVariant, HiddenLoss, HiddenRecipe, KtoRecipe,
    ObjectiveRecipe, OrpoRecipe, ReferenceRecipe, SftRecipe, SimpoRecipe, TeacherModel, TeacherRecipe,
};
pub use optimizer::{
    AdafactorRate, AdafactorRecipe, Adamw8bitRecipe, AdamwRecipe, LionRecipe, MuonAdamwRecipe, MuonAdjustment,
    MuonRecipe, Optimizer, RelativeRate, SgdRecipe,
};
pub use output::{Export, ExportedWeights, Log, LoraFormat, Sample};
pub use quantization::{EightBitRecipe, FourBitRecipe, Quantization};
pub use reference::reference;
pub use resolved::HEADER;
pub use schedule::{Curve, Decay, Ramp, Schedule, Timescale, Warmup, WarmupStableDecay};
pub use schema::json_schema;
pub use score::{ClassifyRecipe, RewardRecipe};
pub use train::{Duration, Recompute, Train};
pub use vocabulary::{RowInit, RowPreset, VocabularyRecipe};

use firebrand_datasets::DataConfig;

/// A run, decided but for what only model and rows can say: objective, date, and the length that is left to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub model: ModelSource,
    /// Where the weights start.
    pub init: Init,
    /// The run directory, relative to the current one.
    pub output: PathBuf,
    /// Of every random choice: initial adapter or weights, order of rows, dropout.
    pub seed: u64,
    pub device: DeviceName,
    pub dtype: ComputeDtype,
    /// Whether a device may round operands of f32 products to TF32.
    pub allow_tf32: bool,
    /// How frozen weights are held. Absent where they are quantized, and in a full run, which freezes none.
    pub base_dtype: Option<StoredDtype>,
    pub method: Method,
    /// Tokens that the base does not have. Absent: none are added.
    pub vocabulary: Option<VocabularyRecipe>,
    /// How the frozen base is quantized. Absent: it is not.
    pub quantization: Option<Quantization>,
    /// Paths are resolved.
    pub data: DataConfig,
    /// What is minimised. Absent: what the model is made for.
    pub objective: Option<ObjectiveRecipe>,
    pub train: Train,
    pub optimizer: Optimizer,
    pub schedule: Schedule,
    pub eval: Eval,
    pub checkpoint: Checkpoint,
    pub log: Log,
    /// Questions answered before and after training.
    pub sample: Option<Sample>,
    pub export: Export,
}
