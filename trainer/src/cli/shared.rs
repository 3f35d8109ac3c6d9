//! Arguments that several verbs have: the model, how rows become tokens, a part of the data.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use firebrand_datasets::{Format, TemplateChoice, TrainOn};
use serde::de::DeserializeOwned;

use crate::recipe::{ComputeDtype, DeviceName};

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitName {
    /// `[[data.train]]`.
    Train,
    /// `[[data.eval]]`.
    Eval,
}

/// Which model to use, and where.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A model folder, or a hub id `owner/name[@revision]`; with an adapter and without this, the base that the adapter names.
    #[arg(long, required_unless_present = "adapter")]
    pub model: Option<String>,
    /// An adapter folder to put on the model. Repeated: all of them together, which must be LoRA.
    #[arg(long, value_name = "DIR")]
    pub adapter: Vec<PathBuf>,
    /// The base under an adapter that was trained on a quantized one: quantized alike, or the original weights.
    #[arg(long, value_enum, default_value = "trained")]
    pub base: Base,
    /// Put an adapter on a model that is not the one it was trained on.
    #[arg(long)]
    pub other_base: bool,
    /// auto, cpu, or what `firebrand devices` lists.
    #[arg(long, default_value = "auto")]
    pub device: DeviceName,
    /// f32, bf16 or auto: what products read their operands in, as `dtype` in a recipe.
    #[arg(long, default_value = "f32", value_parser = word::<ComputeDtype>)]
    pub dtype: ComputeDtype,
}

/// The base of an adapter that was trained on a quantized one (QLoRA).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Base {
    /// As it was in training.
    Trained,
    /// The weights in the model's files.
    Original,
}

/// How rows become tokens when there is no recipe.
#[derive(Debug, Clone, Args)]
pub struct RowArgs {
    /// Cut rows to this many tokens; whole rows when left out.
    #[arg(long, value_name = "TOKENS")]
    pub max_length: Option<usize>,
    /// auto, messages, prompt-completion, text or tokens.
    #[arg(long, default_value = "auto", value_parser = word::<Format>)]
    pub format: Format,
    /// Columns that have other names in the files: `--columns prompt=Question,completion=Answer`.
    #[arg(long, value_delimiter = ',', value_parser = column, value_name = "OURS=THEIRS")]
    pub columns: Vec<(String, String)>,
    /// assistant, last, completion or all.
    #[arg(long, default_value = "assistant", value_parser = word::<TrainOn>)]
    pub train_on: TrainOn,
    /// The model's own template (`model`), a built-in name, or a .jinja file.
    #[arg(long, default_value = "model")]
    pub template: TemplateChoice,
    /// Rows a forward pass.
    #[arg(long, default_value_t = 4)]
    pub batch_size: usize,
}

/// Parses `ours=theirs`.
pub(super) fn column(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((ours, theirs)) if !ours.trim().is_empty() && !theirs.is_empty() => {
            Ok((ours.trim().to_owned(), theirs.to_owned()))
        }
        _ => Err("write ours=theirs, such as prompt=Question".into()),
    }
}

/// Parses a word that a recipe would use.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}
