//! Arguments of `firebrand eval`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{ModelArgs, RowArgs};

/// `eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Files of rows.
    #[arg(long, required = true, num_args = 1..)]
    pub data: Vec<String>,
    #[command(flatten)]
    pub rows: RowArgs,
    /// Tell the classes of labelled pictures by their names: for two towers.
    #[arg(long)]
    pub zero_shot: bool,
    /// With --zero-shot: a file with the name of a class on each line; left out, the names in the rows.
    #[arg(long, value_name = "FILE", requires = "zero_shot")]
    pub classes: Option<PathBuf>,
    /// With --zero-shot: a file with a prompt on each line, in which {} stands for the name; left out, "a photo of a {}.".
    #[arg(long, value_name = "FILE", requires = "zero_shot")]
    pub templates: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}
