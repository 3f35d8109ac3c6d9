//! What an inspection found, as one JSON object.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

/// Everything about one path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectReport {
    /// As given.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Architecture, for model folders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<FamilyReport>,
    /// Method, for adapter folders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterReport>,
    /// Progress, for checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointReport>,
    /// Elements of all weights: a tied head counts once, quantized weights by their numbers and not their bytes, buffers that the model
    /// recomputes not at all.
    pub parameters: u64,
    /// By name of the dtype, over all tensors in the files.
    pub dtypes: BTreeMap<&'static str, DtypeReport>,
    /// In the order of files and bytes.
    pub tensors: Vec<TensorReport>,
    /// Sorted by name.
    pub files: Vec<FileReport>,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A folder with `config.json` and weights.
    Model,
    /// A PEFT folder.
    Adapter,
    /// A `checkpoint-N` of a run.
    Checkpoint,
    /// Tensors without a configuration.
    Weights,
}

/// The architecture a `config.json` names.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FamilyReport {
    /// `model_type`, the name of the family.
    pub model_type: String,
    /// How its linear maps are quantized in the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "packing")]
    pub scheme: Option<String>,
    /// Its sizes, if this program can train it.
    pub architecture: Option<Architecture>,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsupported: Option<String>,
}

/// Sizes of a network, by its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Architecture {
    /// A decoder.
    Decoder(DecoderSizes),
    /// Two towers.
    Towers(TowersSizes),
}

/// Sizes of a decoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecoderSizes {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The blocks.
    #[serde(flatten)]
    pub blocks: BlockSizes,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Whether the output head is the embedding, by configuration and files together.
    pub tied_head: bool,
}

/// Sizes of two towers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TowersSizes {
    /// Width of the common space.
    pub embedding: usize,
    /// The tower of texts.
    pub text: TextSizes,
    /// The tower of pictures.
    pub vision: VisionSizes,
}

/// Sizes of a tower of texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextSizes {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// The blocks.
    #[serde(flatten)]
    pub blocks: BlockSizes,
    /// Longest text, in tokens.
    pub max_positions: usize,
}

/// Sizes of a tower of pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VisionSizes {
    /// Height and width of a picture.
    pub image_size: usize,
    /// Height and width of a patch.
    pub patch_size: usize,
    /// The blocks.
    #[serde(flatten)]
    pub blocks: BlockSizes,
}

/// Sizes of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockSizes {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
}

/// What an `adapter_config.json` says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterReport {
    /// The recipe's word for the method.
    pub method: &'static str,
    /// `base_model_name_or_path`.
    pub base_model: Option<String>,
    /// Rank and scale, of methods that have them.
    #[serde(flatten)]
    pub lora: Option<LowRankReport>,
    /// `target_modules` as it stands in the file.
    pub target_modules: Value,
    /// Number of adapted modules.
    pub modules: usize,
}

/// What it says of LoRA and DoRA.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LowRankReport {
    /// Rank, where no pattern says otherwise.
    pub rank: usize,
    /// Scale numerator, where no pattern says otherwise.
    pub alpha: f64,
    /// Dropout in training.
    pub dropout: f64,
    /// Scale by the root of the rank.
    pub rslora: bool,
}

/// Where a run stood.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointReport {
    /// Optimiser steps completed.
    pub step: u64,
    /// Passes over the data completed.
    pub epoch: u64,
    /// Labelled tokens trained on.
    pub tokens: u64,
    /// The recipe's seed.
    pub seed: u64,
    /// The value the best checkpoint is chosen by, if it was measured at this step.
    pub metric: Option<f64>,
    /// Tensors of the optimiser.
    pub optimizer_tensors: usize,
    /// Size of their file in bytes.
    pub optimizer_bytes: u64,
}

/// The tensors of one dtype.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DtypeReport {
    /// How many.
    pub tensors: u64,
    /// Their elements.
    pub elements: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorReport {
    /// As in the file.
    pub name: String,
    /// As in the file.
    pub shape: Vec<usize>,
    /// As in the file: `BF16`.
    pub dtype: &'static str,
    /// Name of the file.
    pub file: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Name in the folder.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Of the content, in lower-case hexadecimal.
    pub sha256: String,
}
