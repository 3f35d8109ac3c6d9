//! The arguments of `distill`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::recipe::DeviceName;

/// `distill`.
#[derive(Debug, Subcommand)]
pub enum DistillCommand {
    /// Run the teacher of a recipe once, and keep its likeliest tokens at every labelled position; goes on where it was ended
    #[command(
        after_help = "Example:\n  firebrand distill cache recipes/objectives/distill.toml --set objective.cache=runs/teacher"
    )]
    Cache(DistillCacheArgs),
}

/// `distill cache`.
#[derive(Debug, Args)]
pub struct DistillCacheArgs {
    /// The recipe (TOML), with `teacher` and `cache` under `[objective]`.
    pub recipe: PathBuf,
    /// Override a key: `--set objective.top_k=128`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Where to compute, in place of the recipe's device.
    #[arg(long)]
    pub device: Option<DeviceName>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}
