//! The `[data]` section of a recipe: what users write. Plain data, no behaviour beyond defaults and names.

mod format;

pub use format::Format;

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::documents::DocumentAttention;
use crate::picture::MOST_PIXELS;
use crate::source::{Columns, Delimiter, TextEncoding};
use crate::template::Builtin;

/// Data: files, how rows become tokens, and which of them are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Longest row, and the window that rows are packed into, in tokens.
    pub max_length: usize,
    /// Pack several rows into one window. Rows in one pack never see each other and positions restart, unless
    /// `document_attention` joins them.
    pub packing: bool,
    /// Whether the documents of a pack see each other.
    pub document_attention: DocumentAttention,
    /// Which tokens are trained.
    pub train_on: TrainOn,
    /// The chat template: `model` (the model's own), a `.jinja` file, or a built-in one: `chatml`, `llama3`, `llama2`,
    /// `mistral`, `gemma`, `zephyr`, `vicuna`, `alpaca`, `phi3`, `falcon`, `redpajama`, `olmo2`.
    pub template: TemplateChoice,
    /// A system prompt for all dialogues that have no system message of their own, the questions of `[sample]` included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// What happens to rows longer than `max_length`.
    pub truncation: Truncation,
    /// Visit the rows of an epoch in an order drawn from the seed. Several sources then alternate evenly; without it
    /// they follow one another.
    pub shuffle: bool,
    /// Without packing: put rows of similar length into one micro-batch, which saves padding.
    pub group_by_length: bool,
    /// Share of the training rows to evaluate on, in place of [[data.eval]]. A row's side follows from what it says, so
    /// it stays there when rows are added, and equal rows are on the same side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_split: Option<f64>,
    /// Keep prepared rows for the next start.
    pub cache: CacheChoice,
    /// The day that templates which print today's date print (YYYY-MM-DD). Left out: the day of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// What happens to rows that cannot be read or rendered.
    pub broken: BrokenRows,
    /// What happens to rows with an empty answer, question or text.
    pub empty: EmptyRows,
    /// The side in pixels of the squares that a diffusion pipeline is trained on, a multiple of what its autoencoder shrinks
    /// pictures by. Left out: the size that it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<u32>,
    /// The most pixels of a picture. A larger one is refused from its header, before memory is taken for it.
    pub max_pixels: u64,
    /// Rows may name files (`tensors`, `image`) anywhere; else they name files below the folder of their own file, and neither an
    /// absolute path, nor `..`, nor a link leads out of it. Only for rows that are trusted.
    pub allow_outside: bool,
    /// Thresholds of the checks made before the first step.
    pub gate: GateConfig,
    /// What to train on.
    pub train: Vec<SourceConfig>,
    /// What to evaluate on.
    pub eval: Vec<SourceConfig>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            max_length: 1024,
            packing: true,
            document_attention: DocumentAttention::default(),
            train_on: TrainOn::default(),
            template: TemplateChoice::default(),
            system: None,
            truncation: Truncation::default(),
            shuffle: true,
            group_by_length: false,
            validation_split: None,
            cache: CacheChoice::Auto,
            date: None,
            broken: BrokenRows::default(),
            empty: EmptyRows::default(),
            resolution: None,
            max_pixels: MOST_PIXELS,
            allow_outside: false,
            gate: GateConfig::default(),
            train: Vec::new(),
            eval: Vec::new(),
        }
    }
}

impl DataConfig {
    /// The sources of a split.
    pub fn sources(&self, split: Split) -> &[SourceConfig] {
        match split {
            Split::Train => &self.train,
            Split::Eval => &self.eval,
        }
    }

    /// Whether there are rows to evaluate on.
    pub fn has_eval(&self) -> bool {
        !self.eval.is_empty() || self.validation_split.is_some()
    }
}

/// Whether prepared rows are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CacheChoice {
    /// In the cache folder, found again by what they were made of.
    #[default]
    Auto,
    /// In a temporary file that goes with the run.
    Off,
}

/// One source of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A file, a glob, a folder, or `hf://datasets/owner/name`, with `/path` and `@revision` where needed. In a folder the
    /// names of the files say which are for training (`train`) and which for evaluation (`validation`, `test`). Files are .jsonl,
    /// .json, .csv, .tsv and .txt (also with .gz or .zst behind it), .parquet, and .arrow, .feather or .ipc.
    pub path: String,
    /// What a row holds.
    #[serde(default)]
    pub format: Format,
    /// Columns that have other names in the files: ours = theirs, as in `{ prompt = "question", completion = "answer.text" }`.
    #[serde(default)]
    pub columns: Columns,
    /// The rows to take, as a condition of SQL over the file's own columns: `lang = 'en' AND score >= 4`. Rows of which it
    /// is false or NULL are left out.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
    /// In place of `where`, a whole query: `SELECT q AS prompt, a AS completion FROM self WHERE score >= 4 LIMIT 1000`. Rows
    /// are looked at one by one, so it groups, joins and sorts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// What a row of a .txt file is.
    #[serde(default)]
    pub text_rows: TextRows,
    /// The encoding of text files that are neither UTF-8 nor UTF-16 with its mark: `windows-1252`, `gbk`, `shift_jis` and the
    /// like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<TextEncoding>,
    /// What separates the cells of .csv and .tsv files, where their header does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<Delimiter>,
    /// Share of the source: an epoch visits its rows this many times, a fraction of them for the part after the point.
    #[serde(default = "one")]
    pub weight: f64,
    /// In place of `weight`: exactly this many rows of the source an epoch. They go on where the epoch before stopped, so
    /// every row comes before one comes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// How often the source may be gone through in the whole run; after that the others go on without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
}

impl SourceConfig {
    /// All rows of `path` once an epoch, format decided from the rows.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            format: Format::Auto,
            columns: Columns::none(),
            keep: None,
            sql: None,
            text_rows: TextRows::default(),
            encoding: None,
            delimiter: None,
            weight: 1.0,
            rows: None,
            epochs: None,
        }
    }
}

fn one() -> f64 {
    1.0
}

/// Which half of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// Rows that are trained on.
    Train,
    /// Rows that are only measured.
    Eval,
}

/// What a row of plain text is. Blank rows are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TextRows {
    /// The lines up to the next blank one.
    #[default]
    Paragraph,
    /// A line.
    Line,
    /// The whole file.
    Document,
}

/// What happens to rows that cannot be used: no JSON, other keys than the format's, refused by the template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BrokenRows {
    /// They end the run before it begins; the first are named.
    #[default]
    Stop,
    /// They are left out and counted; the first are named in a warning.
    Skip,
}

/// What happens to rows in which a user or assistant message, a text, a prompt or a completion is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EmptyRows {
    /// They stay, and the gate decides (`allow_empty`).
    #[default]
    Keep,
    /// They are left out and counted; the first are named in a warning.
    Skip,
}

/// Which tokens of a row are trained. `text` rows are trained whole and `tokens` rows as their labels say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrainOn {
    /// Every assistant turn with its end token; the completion of a prompt-completion row.
    #[default]
    Assistant,
    /// The last assistant turn only.
    Last,
    /// What answers the prompt: the completion of a prompt-completion row, the assistant turns after the last user message.
    Completion,
    /// Every token, prompts and template text too.
    All,
}

/// What happens to a row longer than `max_length`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Truncation {
    /// An error that names the row.
    Refuse,
    /// Leave the row out, and count it.
    Drop,
    /// Keep the first tokens, and count the row.
    #[default]
    KeepStart,
    /// Keep the last tokens (and the BOS token), and count the row.
    KeepEnd,
    /// Cut `text` rows into windows that are all trained; other rows keep their start.
    Split,
}

/// Where the chat template comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum TemplateChoice {
    /// The one in the model's folder.
    #[default]
    Model,
    /// One that is compiled in.
    Builtin(Builtin),
    /// A Jinja file.
    File(PathBuf),
}

impl From<String> for TemplateChoice {
    fn from(text: String) -> Self {
        match text.as_str() {
            "model" => TemplateChoice::Model,
            name => Builtin::by_name(name).map_or_else(|| TemplateChoice::File(text.into()), TemplateChoice::Builtin),
        }
    }
}

impl From<TemplateChoice> for String {
    fn from(choice: TemplateChoice) -> Self {
        choice.to_string()
    }
}

impl fmt::Display for TemplateChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateChoice::Model => f.write_str("model"),
            TemplateChoice::Builtin(builtin) => f.write_str(builtin.name()),
            TemplateChoice::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl JsonSchema for TemplateChoice {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TemplateChoice".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut examples = vec!["model"];
        examples.extend(Builtin::ALL.iter().map(|builtin| builtin.name()));
        schemars::json_schema!({
            "type": "string",
            "description": "`model` (the model's own), the name of a built-in template, or the path of a .jinja file.",
            "examples": examples,
        })
    }
}

/// Thresholds of the data gate: the largest shares of rows that may have something before it is an error, 0 to 1. What
/// passes is still counted and shown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GateConfig {
    /// Largest share of rows whose whole answer may be lost to truncation.
    pub allow_truncated: f64,
    /// Largest share of rows that may hold a user or assistant message (or a text, or a completion) without text.
    pub allow_empty: f64,
    /// Largest share of rows that may hold images, sound or video, which a model of text does not see: only their text is
    /// trained.
    pub allow_media: f64,
    /// Largest share of rows that may have a trained turn without an end token.
    pub allow_unended: f64,
    /// Largest share of rows that may train nothing; they are left out. No row at all that trains something is always an error.
    pub allow_unlabelled: f64,
    /// Rows that train fewer tokens than this are counted as training few.
    pub few_labels: usize,
    /// Largest share of rows that may train few tokens.
    pub allow_few_labels: f64,
    /// Largest share of rows that may stand there a second time.
    pub allow_duplicates: f64,
    /// Largest share of evaluation rows that may be among the training rows.
    pub allow_leaked: f64,
    /// Largest share of rows whose messages may spell control tokens, such as `<|im_end|>`.
    pub allow_control: f64,
    /// Largest share of rows with characters that stand for lost bytes (U+FFFD).
    pub allow_lossy: f64,
    /// Largest share of dialogues whose messages may follow each other oddly: the assistant first, two of the user's in a row.
    pub allow_odd_order: f64,
    /// Largest share of pairs whose two answers may be the same.
    pub allow_equal_pairs: f64,
    /// Largest share of rows that may be broken where `broken = "skip"` leaves them out.
    pub allow_broken: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            allow_truncated: 0.05,
            allow_empty: 0.0,
            allow_media: 0.0,
            allow_unended: 0.0,
            allow_unlabelled: 1.0,
            few_labels: 2,
            allow_few_labels: 1.0,
            allow_duplicates: 1.0,
            allow_leaked: 1.0,
            allow_control: 0.01,
            allow_lossy: 1.0,
            allow_odd_order: 1.0,
            allow_equal_pairs: 0.05,
            allow_broken: 0.05,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_survive_a_round_trip() {
        let text = serde_json::to_string(&DataConfig::default()).unwrap();
        let back: DataConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(back, DataConfig::default());
        assert_eq!(serde_json::from_str::<DataConfig>("{}").unwrap(), back);
    }

    #[test]
    fn template_choice_tells_names_from_files() {
        let choice = |text: &str| TemplateChoice::from(text.to_string());
        assert_eq!(choice("model"), TemplateChoice::Model);
        assert_eq!(choice("chatml"), TemplateChoice::Builtin(Builtin::ChatMl));
        assert_eq!(choice("t/x.jinja"), TemplateChoice::File("t/x.jinja".into()));
        for text in ["model", "gemma", "my.jinja"] {
            assert_eq!(choice(text).to_string(), text);
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<DataConfig>(r#"{"max_lenght": 3}"#).unwrap_err();
        assert!(error.to_string().contains("max_lenght"));
    }
}
