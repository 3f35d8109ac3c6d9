//! The command line as clap types, [`Cli`]: what can be asked for, and not how it is done.

mod adapter;
mod bench;
mod data;
mod distill;
mod eval;
mod generate;
mod shared;
mod student;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use adapter::{AdapterCommand, AdapterExtractArgs, AdapterInspectArgs, AdapterMergeArgs, AdapterMethod};
pub use bench::BenchArgs;
pub use data::DataArgs;
pub use distill::{DistillCacheArgs, DistillCommand};
pub use eval::EvalArgs;
pub use generate::GenerateArgs;
use shared::word;
pub use shared::{Base, ModelArgs, RowArgs, SplitName};
pub use student::StudentArgs;

use crate::recipe::{DeviceName, WrittenDtype};
use crate::ui::UiChoice;

/// Fine-tune open-weights transformers from a TOML recipe.
#[derive(Debug, Parser)]
#[command(name = "firebrand", version, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Tell errors, warnings and results only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Tell what is read and how long it takes.
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a recipe
    #[command(
        after_help = "Example:\n  firebrand train recipes/quickstart.toml --set train.steps=20\n  firebrand train recipes/quickstart.toml --find-lr"
    )]
    Train(TrainArgs),
    /// Check recipes, files, tokenizer, template, targets, data and memory without training
    #[command(after_help = "Example:\n  firebrand check recipes/*.toml")]
    Check(CheckArgs),
    /// Show rows as the tokens, labels and packs that training will see, or a file before there is a recipe
    #[command(
        after_help = "Examples:\n  firebrand data recipes/quickstart.toml --rows 3\n  firebrand data tickets.csv --model DIR\n  firebrand data recipes/quickstart.toml --stats rows.csv --model DIR\n  firebrand data recipes/pictures/clip.toml --out sheet.png"
    )]
    Data(DataArgs),
    /// Look at data and model, and write a recipe for them
    #[command(after_help = "Example:\n  firebrand init --model DIR --data tickets.csv --out tickets.toml")]
    Init(InitArgs),
    /// Measure loss, perplexity and token accuracy on data
    #[command(
        after_help = "Examples:\n  firebrand eval --model DIR --adapter runs/bot/adapter --data eval.jsonl\n  firebrand eval --model CLIP --data pictures/ --zero-shot"
    )]
    Eval(EvalArgs),
    /// Write the log-probability of every token of every row
    #[command(after_help = "Example:\n  firebrand score --model DIR --data rows.jsonl --out scores.jsonl")]
    Score(ScoreArgs),
    /// Continue a text, answer prompts of a file, or chat
    #[command(
        after_help = "Examples:\n  firebrand generate --model DIR --prompt 'Once upon a time'\n  firebrand generate --adapter runs/bot/adapter --chat --system 'Be brief.'"
    )]
    Generate(Box<GenerateArgs>),
    /// Fold an adapter into its base and write a full model folder
    #[command(
        after_help = "Example:\n  firebrand merge --model DIR --adapter runs/bot/adapter --out merged --dtype bf16"
    )]
    Merge(MergeArgs),
    /// Write a model folder with more tokens: those named here, or those that its tokenizer has and the model has not
    #[command(after_help = "Example:\n  firebrand enlarge --model DIR --add '<image>' --out larger")]
    Enlarge(EnlargeArgs),
    /// Write a model folder with some of a model's layers, to be trained as its student
    #[command(after_help = "Example:\n  firebrand student --model DIR --every 2 --out smaller")]
    Student(StudentArgs),
    /// Prepare a distillation
    #[command(
        subcommand,
        after_help = "Example:\n  firebrand distill cache recipes/objectives/distill.toml --set objective.cache=runs/teacher"
    )]
    Distill(DistillCommand),
    /// Do something with finished adapters
    #[command(
        subcommand,
        after_help = "Example:\n  firebrand adapter merge a b --weights 0.7 0.3 --method svd --out ab"
    )]
    Adapter(AdapterCommand),
    /// Show or remove prepared rows that are kept for the next start
    #[command(subcommand, after_help = "Example:\n  firebrand cache list\n  firebrand cache clear --older-than 30")]
    Cache(CacheCommand),
    /// Tell what a model, adapter, checkpoint or file of weights holds
    #[command(after_help = "Example:\n  firebrand inspect runs/bot/adapter")]
    Inspect(InspectArgs),
    /// Train a few steps of a recipe and report where the time goes
    #[command(after_help = "Example:\n  firebrand bench recipe.toml --steps 8 --set dtype=bf16 --trace trace.json")]
    Bench(BenchArgs),
    /// List the devices that this build can use here, and what each of them can compute
    #[command(after_help = "Example:\n  firebrand devices --json")]
    Devices(DevicesArgs),
    /// Train a built-in tiny model and prove the numbers on this machine
    #[command(after_help = "Example:\n  firebrand selftest --device cpu")]
    Selftest(SelftestArgs),
    /// Print the JSON Schema of recipes, for editors
    #[command(after_help = "Example:\n  firebrand schema > recipe.schema.json")]
    Schema,
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  firebrand completions bash > ~/.local/share/bash-completion/completions/firebrand"
    )]
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

/// `train`.
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The recipe (TOML).
    pub recipe: PathBuf,
    /// Override a key: `--set optimizer.learning_rate=1e-4`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Run directory, in place of the recipe's.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Continue an interrupted run: from this checkpoint, or from the newest whole one.
    #[arg(long, value_name = "CHECKPOINT", num_args = 0..=1)]
    pub resume: Option<Option<PathBuf>>,
    /// Go on although the base model is not the one the run began with.
    #[arg(long, requires = "resume")]
    pub changed_base: bool,
    /// Go on although the rows are not those the run began with.
    #[arg(long, requires = "resume")]
    pub changed_data: bool,
    /// Do not train, but look for a learning rate: train at rates that grow from step to step, print the losses, and draw them
    /// as an SVG beside the run directory, which is left alone.
    #[arg(long, conflicts_with_all = ["resume", "changed_base", "changed_data"])]
    pub find_lr: bool,
    /// Steps of that search.
    #[arg(long, value_name = "N", requires = "find_lr", default_value_t = 100, value_parser = clap::value_parser!(u64).range(20..))]
    pub lr_steps: u64,
    /// The rate of its first step; a hundredth of the recipe's when not given.
    #[arg(long, value_name = "RATE", requires = "find_lr")]
    pub lr_from: Option<f64>,
    /// The rate of its last step; a hundred times the recipe's when not given.
    #[arg(long, value_name = "RATE", requires = "find_lr")]
    pub lr_to: Option<f64>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t = UiChoice::Auto)]
    pub ui: UiChoice,
    /// auto, cpu, or what `firebrand devices` lists, in place of the recipe's.
    #[arg(long)]
    pub device: Option<DeviceName>,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Recipes (TOML).
    #[arg(required = true)]
    pub recipes: Vec<PathBuf>,
    /// Override a key of every recipe.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Print one JSON object a recipe.
    #[arg(long)]
    pub json: bool,
}

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The model to train: a folder, or a hub id `owner/name[@revision]`.
    #[arg(long)]
    pub model: String,
    /// What to train on: a data file, a folder, a glob, or `hf://datasets/owner/name`.
    #[arg(long, value_name = "FILE")]
    pub data: String,
    /// Where the recipe goes.
    #[arg(long, value_name = "RECIPE", default_value = "recipe.toml")]
    pub out: PathBuf,
}

/// `score`.
#[derive(Debug, Args)]
pub struct ScoreArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// A file of rows, of any kind that a recipe takes; a row may give `input_ids` in place of text.
    #[arg(long)]
    pub data: PathBuf,
    /// Where the JSONL goes.
    #[arg(long)]
    pub out: PathBuf,
    #[command(flatten)]
    pub rows: RowArgs,
}

/// `merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The base: a model folder or a hub id.
    #[arg(long)]
    pub model: String,
    /// The adapter folder.
    #[arg(long, value_name = "DIR")]
    pub adapter: PathBuf,
    /// What to fold an adapter into that was trained on a quantized base: that base, dequantized, or the original weights.
    #[arg(long, value_enum, default_value = "trained")]
    pub base: Base,
    /// Merge an adapter into a model that is not the one it was trained on.
    #[arg(long)]
    pub other_base: bool,
    /// The new model folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// f32, bf16 or f16; nf4 or fp4, which bitsandbytes and transformers read. When left out, as in the base, dequantized.
    #[arg(long, value_parser = written)]
    pub dtype: Option<WrittenDtype>,
    /// Print the receipt as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `enlarge`.
#[derive(Debug, Args)]
pub struct EnlargeArgs {
    /// A model folder or a hub id.
    #[arg(long)]
    pub model: String,
    /// A control token to add. May be repeated.
    #[arg(long, value_name = "TOKEN")]
    pub add: Vec<String>,
    /// A word that becomes one token. May be repeated.
    #[arg(long, value_name = "WORD")]
    pub add_words: Vec<String>,
    /// The new model folder. New rows of embedding and output head are the mean of the old ones.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show prepared rows: their size, age, and the data they were made from
    #[command(after_help = "Example:\n  firebrand cache list --json")]
    List(CacheListArgs),
    /// Remove prepared rows; they are made again when they are needed
    #[command(after_help = "Example:\n  firebrand cache clear --older-than 30")]
    Clear(CacheClearArgs),
}

/// `cache list`.
#[derive(Debug, Args)]
pub struct CacheListArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `cache clear`.
#[derive(Debug, Args)]
pub struct CacheClearArgs {
    /// Beginnings of keys; everything when left out.
    pub keys: Vec<String>,
    /// Only what was not used for so many days.
    #[arg(long, value_name = "DAYS")]
    pub older_than: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A folder or file.
    pub path: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `selftest`.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    /// auto, cpu, or what `firebrand devices` lists.
    #[arg(long, default_value = "auto")]
    pub device: DeviceName,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Parses a dtype or 4-bit format that weights can be written in.
fn written(text: &str) -> Result<WrittenDtype, String> {
    if text == "int8" {
        let reason = "no reader has names in files for blockwise int8: transformers' 8-bit folders are another format (LLM.int8)";
        return Err(format!("{reason}; write nf4, fp4, bf16, f16 or f32"));
    }
    word(text)
}
