//! Arguments of `firebrand generate`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::TypedValueParser;
use firebrand_datasets::TemplateChoice;

use super::shared::{ModelArgs, column};

/// `generate`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("input").required(true).args(["prompt", "chat", "data"])))]
pub struct GenerateArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Text to continue, as it is; for a diffusion pipeline, what is to be seen.
    #[arg(long)]
    pub prompt: Option<String>,
    /// Hold a dialogue, rendered as in training.
    #[arg(long)]
    pub chat: bool,
    /// A system prompt for dialogues: with --chat, and with --data for rows of messages that have none.
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt")]
    pub system: Option<String>,
    /// A file of rows, of any kind that a recipe takes: the prompt of every row is answered, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Columns that have other names in the file: `--columns prompt=Question`.
    #[arg(long, value_delimiter = ',', value_parser = column, value_name = "OURS=THEIRS", requires = "data")]
    pub columns: Vec<(String, String)>,
    /// Most tokens to write.
    #[arg(long, default_value_t = 256)]
    pub max_new_tokens: usize,
    /// Divides the logits before a token is drawn; 0, the default, takes the most likely token every time.
    #[arg(long)]
    pub temperature: Option<f64>,
    /// Draw from so many of the most likely tokens; 0, the default: from all.
    #[arg(long, value_name = "N")]
    pub top_k: Option<usize>,
    /// Draw from the smallest set of tokens with this probability; 1, the default: from all.
    #[arg(long)]
    pub top_p: Option<f64>,
    /// Draw from tokens at least this share as likely as the most likely one; 0, the default: from all.
    #[arg(long)]
    pub min_p: Option<f64>,
    /// Makes tokens that were seen less likely, prompt included; 1, the default: as likely.
    #[arg(long)]
    pub repetition_penalty: Option<f64>,
    /// End an answer before this text. May be repeated.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Where the picture of a diffusion pipeline goes: a PNG file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Of a picture: what is to be avoided.
    #[arg(long, value_name = "TEXT", requires = "out")]
    pub negative_prompt: Option<String>,
    /// Of a picture: number of steps; 50 when left out.
    #[arg(long, requires = "out", value_parser = clap::value_parser!(u64).range(1..).map(|steps| steps as usize))]
    pub steps: Option<usize>,
    /// Of a picture: how much more the prompt counts than what is to be avoided; 7.5 when left out, 5 for XL. At 1 the prompt
    /// alone is asked.
    #[arg(long, requires = "out")]
    pub guidance: Option<f64>,
    /// Of a picture: width in pixels.
    #[arg(long, requires = "out")]
    pub width: Option<usize>,
    /// Of a picture: height in pixels.
    #[arg(long, requires = "out")]
    pub height: Option<usize>,
    /// Of a picture: a safetensors file with the noise to start from, `latents` [channels, height, width].
    #[arg(long, value_name = "FILE", requires = "out")]
    pub latents: Option<PathBuf>,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The model's own template (`model`), a built-in name, or a .jinja file.
    #[arg(long, default_value = "model")]
    pub template: TemplateChoice,
    /// Go on although the template is not the one the adapter was trained with.
    #[arg(long)]
    pub allow_template_mismatch: bool,
}
