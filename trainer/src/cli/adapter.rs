//! The arguments of `firebrand adapter`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `adapter`.
#[derive(Debug, Subcommand)]
pub enum AdapterCommand {
    /// Make one LoRA adapter of several, as PEFT's add_weighted_adapter does
    #[command(after_help = "Example:\n  firebrand adapter merge a b --weights 0.7 0.3 --method svd --out ab")]
    Merge(AdapterMergeArgs),
    /// Tell how much an adapter changes every module, and in how many directions
    #[command(after_help = "Example:\n  firebrand adapter inspect runs/bot/adapter")]
    Inspect(AdapterInspectArgs),
    /// Make a LoRA adapter of a full fine-tune, and say what it cannot hold
    #[command(
        after_help = "Example:\n  firebrand adapter extract --base HuggingFaceTB/SmolLM2-135M --tuned runs/full/model --rank 16 --out tuned-lora"
    )]
    Extract(AdapterExtractArgs),
}

/// `adapter extract`.
#[derive(Debug, Args)]
pub struct AdapterExtractArgs {
    /// The model that was trained from: a folder or a hub id.
    #[arg(long)]
    pub base: String,
    /// The model that came out: a folder or a hub id.
    #[arg(long)]
    pub tuned: String,
    /// Rank of the adapter.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub rank: u16,
    /// The linear layers to take differences of: all-linear, or module names separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "all-linear", value_name = "NAMES")]
    pub targets: Vec<String>,
    /// Seed of the search for the largest directions.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The new adapter folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print one JSON object, with every module.
    #[arg(long)]
    pub json: bool,
}

/// `adapter inspect`.
#[derive(Debug, Args)]
pub struct AdapterInspectArgs {
    /// The adapter folder.
    #[arg(value_name = "DIR")]
    pub path: PathBuf,
    /// Print one JSON object, with all singular values.
    #[arg(long)]
    pub json: bool,
}

/// `adapter merge`.
#[derive(Debug, Args)]
pub struct AdapterMergeArgs {
    /// Adapter folders.
    #[arg(required = true, num_args = 1.., value_name = "DIR")]
    pub adapters: Vec<PathBuf>,
    /// How much of each, in their order; 1 each when left out. May be negative.
    #[arg(long, num_args = 1.., allow_negative_numbers = true, value_name = "NUMBER")]
    pub weights: Vec<f64>,
    /// cat and svd combine what the adapters do, the others their factors.
    #[arg(long, value_enum, default_value_t = AdapterMethod::Svd)]
    pub method: AdapterMethod,
    /// Rank of the result, for svd; the largest of the adapters' when left out.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub rank: Option<u16>,
    /// Share of the numbers kept, for ties and the dare methods.
    #[arg(long, default_value_t = 0.5)]
    pub density: f64,
    /// Seed of the dare methods.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The new adapter folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// How adapters become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum AdapterMethod {
    /// Weighted sums of the factors.
    Linear,
    /// Factors side by side: exact, at the sum of the ranks.
    Cat,
    /// The best approximation of the weighted sum.
    Svd,
    /// The largest numbers, where most agree on the sign.
    Ties,
    /// Random numbers, enlarged.
    DareLinear,
    /// Random numbers, enlarged, where most agree on the sign.
    DareTies,
}
