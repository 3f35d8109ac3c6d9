//! Arguments of `firebrand bench`.

use std::path::PathBuf;

use clap::Args;

/// `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The recipe, a TOML file.
    pub recipe: PathBuf,
    /// Steps that are measured, after one that is not.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Change a key of the recipe, such as --set train.batch_size=8; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Write every phase and operation with its times into a file for `chrome://tracing` or Perfetto.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}
