//! Arguments of `firebrand data`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{Base, SplitName};
use crate::recipe::DeviceName;

/// `data`.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// A recipe (TOML), or a data file, folder or glob.
    #[arg(value_name = "RECIPE|FILE")]
    pub recipe: PathBuf,
    /// Override a key.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Rows to show; all when left out with `--json`, else 5.
    #[arg(long)]
    pub rows: Option<usize>,
    /// Which rows.
    #[arg(long, value_enum, default_value_t = SplitName::Train)]
    pub split: SplitName,
    /// Print one JSON object a row; with `--lengths` or `--stats` one object.
    #[arg(long)]
    pub json: bool,
    /// Show how long all rows of the split are; rows only where `--rows` asks for them.
    #[arg(long)]
    pub lengths: bool,
    /// Write a table of all rows of the split: where each stood, its tokens, what was cut. `.csv` or `.parquet`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rows", "lengths"])]
    pub stats: Option<PathBuf>,
    /// Write what the model is given for each row into this new folder: a safetensors file a row, and `rows.jsonl`, whose rows
    /// have format `tensors`.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "lengths", "stats"])]
    pub tensors: Option<PathBuf>,
    /// Write a contact sheet of pictures as training will see them, with captions or labels: a PNG file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "lengths", "stats", "tensors"])]
    pub out: Option<PathBuf>,
    /// A model folder or hub id. With a data file: whose tokens and labels are shown. With `--stats`: the table has each row's
    /// loss under it, the highest first.
    #[arg(long)]
    pub model: Option<String>,
    /// An adapter folder to put on that model. May be repeated, as for `score`.
    #[arg(long, value_name = "DIR", requires = "model")]
    pub adapter: Vec<PathBuf>,
    /// The base under an adapter that was trained on a quantized one: quantized alike, or the original weights.
    #[arg(long, value_enum, default_value = "trained")]
    pub base: Base,
    /// Where that model computes, in place of the recipe's device.
    #[arg(long, requires = "model")]
    pub device: Option<DeviceName>,
}
