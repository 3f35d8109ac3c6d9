//! [`InspectReport`]: the result of an inspection, which serialises to one JSON object.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

/// A report on one path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectReport {
    /// The path as given.
    pub path: PathBuf,
    /// The kind of file or folder.
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
    /// Number of values of all weights. A tied head counts once, quantized weights by their values and not their bytes,
    /// and buffers that the model recomputes are left out.
    pub parameters: u64,
    /// Sums by name of the dtype, over all tensors in the files.
    pub dtypes: BTreeMap<&'static str, DtypeReport>,
    /// All tensors, in the order of files and bytes.
    pub tensors: Vec<TensorReport>,
    /// All files, sorted by name.
    pub files: Vec<FileReport>,
    /// What a user should know of them, although nothing is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The kind of a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A folder with `config.json` and weights.
    Model,
    /// A PEFT adapter folder.
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
    /// Sizes of the network, if this program can train it.
    pub architecture: Option<Architecture>,
    /// The reason why it cannot.
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
    /// A transformer over images.
    Image(ImageSizes),
    /// A diffusion pipeline.
    Diffusion(DiffusionSizes),
}

/// Sizes of a decoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecoderSizes {
    /// Number of tokens in the vocabulary: rows of the embedding.
    pub vocab_size: usize,
    /// Number of classes of a sequence classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What its scores say: `problem_type` of `config.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem_type: Option<String>,
    /// Sizes of the blocks.
    #[serde(flatten)]
    pub blocks: BlockSizes,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Whether output head and embedding are one matrix, by configuration and files together.
    pub tied_head: bool,
}

/// Sizes of a diffusion pipeline's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffusionSizes {
    /// Channels of the pictures that it reads.
    pub channels: usize,
    /// Channels inside, by stage.
    pub widths: Vec<usize>,
    /// Blocks of the transformers of each stage; 0 where it has none.
    pub transformer_layers: Vec<usize>,
    /// Width of the states of the text.
    pub text_width: usize,
    /// Height and width that it was made for, in its own pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_size: Option<usize>,
    /// What it tells of a noisy picture, and the number of times, where the scheduler is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// Sizes of two towers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TowersSizes {
    /// Width of the common embedding space.
    pub embedding: usize,
    /// Sizes of the text tower.
    pub text: TextSizes,
    /// Sizes of the image tower.
    pub vision: VisionSizes,
}

/// Sizes of a transformer over images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSizes {
    /// Number of classes; absent where there is no head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Number of registers.
    pub registers: usize,
    /// Sizes of images and blocks.
    #[serde(flatten)]
    pub images: VisionSizes,
}

/// Sizes of the text tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TextSizes {
    /// Number of tokens in the vocabulary: rows of the embedding.
    pub vocab_size: usize,
    /// Sizes of the blocks.
    #[serde(flatten)]
    pub blocks: BlockSizes,
    /// Longest text, in tokens.
    pub max_positions: usize,
}

/// Sizes of the image tower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VisionSizes {
    /// Height and width of an image, in pixels.
    pub image_size: usize,
    /// Height and width of a patch, in pixels.
    pub patch_size: usize,
    /// Sizes of the blocks.
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
    /// Width inside the MLP.
    pub intermediate_size: usize,
}

/// The settings of an `adapter_config.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterReport {
    /// The method, as recipes name it.
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

/// The settings of LoRA and DoRA.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LowRankReport {
    /// Rank, unless a pattern sets another.
    pub rank: usize,
    /// `alpha`, the numerator of the scale, unless a pattern sets another.
    pub alpha: f64,
    /// Dropout in training.
    pub dropout: f64,
    /// Whether the scale is divided by the square root of the rank instead of the rank.
    pub rslora: bool,
}

/// The position of a run at a checkpoint.
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
    /// The value by which the best checkpoint is chosen, if the manifest has it.
    pub metric: Option<f64>,
    /// Number of tensors in the optimiser state.
    pub optimizer_tensors: usize,
    /// Size of their file in bytes.
    pub optimizer_bytes: u64,
}

/// Sums over the tensors of one dtype.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DtypeReport {
    /// Number of tensors.
    pub tensors: u64,
    /// Number of values.
    pub elements: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorReport {
    /// The name, as in the file.
    pub name: String,
    /// The shape, as in the file.
    pub shape: Vec<usize>,
    /// The dtype, as in the file, such as `BF16`.
    pub dtype: &'static str,
    /// Name of the file.
    pub file: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Name in the folder.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// sha256 of the content, in lower-case hexadecimal.
    pub sha256: String,
}
