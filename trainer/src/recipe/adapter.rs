//! `[adapter]`: what is trained. Without the section every weight is, with it only small matrices beside frozen ones.
//!
//! The keys mean what PEFT's do. LoRA: Hu et al. 2021 (arXiv 2106.09685); rank-stabilised scale: Kalajdzievski 2023
//! (arXiv 2312.03732); DoRA: Liu et al. 2024 (arXiv 2402.09353); IA3: Liu et al. 2022
//! (arXiv 2205.05638). Not here: matching targets against a model, which needs the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firebrand_adapters::{AdapterConfig, Ia3Config, Layers, LoraConfig, ModulePattern, TrainedBase, Tying};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a run trains.
#[derive(Clone, Debug, PartialEq)]
pub enum Method {
    /// Every weight of the model.
    Full,
    /// Factors `A` and `B` beside frozen linear layers.
    Lora(Box<LoraRecipe>),
    /// The same for their directions, and a magnitude for every output.
    Dora(Box<LoraRecipe>),
    /// A factor for every input or output.
    Ia3(Box<Ia3Recipe>),
}

/// Trains a small adapter beside the frozen model. Leave the section out for full fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AdapterSection {
    Lora(LoraRecipe),
    Dora(LoraRecipe),
    Ia3(Ia3Recipe),
}

impl AdapterSection {
    pub(super) fn init_from_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            AdapterSection::Lora(lora) | AdapterSection::Dora(lora) => lora.init_from.as_mut(),
            AdapterSection::Ia3(ia3) => ia3.init_from.as_mut(),
        }
    }
}

impl Method {
    /// How adapters are made; absent where every weight is trained.
    pub fn adapter(&self) -> Option<AdapterConfig> {
        match self {
            Method::Full => None,
            Method::Lora(lora) => Some(AdapterConfig::Lora(lora.config())),
            Method::Dora(lora) => Some(AdapterConfig::Dora(lora.config())),
            Method::Ia3(ia3) => Some(AdapterConfig::Ia3(ia3.config())),
        }
    }

    /// The start that has to be known where the adapter is put on the quantized base it was trained on.
    pub fn init_to_note(&self) -> Option<LoraInit> {
        match self {
            Method::Lora(lora) => Some(lora.init).filter(|init| *init == LoraInit::Loftq),
            Method::Full | Method::Dora(_) | Method::Ia3(_) => None,
        }
    }

    /// The adapter folder to start from.
    pub fn init_from(&self) -> Option<&Path> {
        match self {
            Method::Full => None,
            Method::Lora(lora) | Method::Dora(lora) => lora.init_from.as_deref(),
            Method::Ia3(ia3) => ia3.init_from.as_deref(),
        }
    }
}

/// LoRA: `W x + scale * B (A x)`, with `A [rank, in]` and `B [out, rank]`. DoRA scales every row of `W + scale * B A` to a length
/// that is trained too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraRecipe {
    /// Rows of `A` and columns of `B`.
    #[schemars(range(min = 1), example = 8)]
    pub rank: usize,
    /// The adapter is scaled by `alpha / rank`.
    #[schemars(extend("exclusiveMinimum" = 0), example = 16.0)]
    pub alpha: f64,
    /// Share of the adapter's inputs set to zero in training. Never active in evaluation.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1), example = 0.05)]
    pub dropout: f64,
    /// The layers that get an adapter: every linear one except the output head (`"all-linear"`), module names or path suffixes, or a
    /// regular expression that must match the whole module path. The embedding and the head are adapted where they are named.
    #[schemars(extend("examples" = [["q_proj", "v_proj"]]))]
    pub targets: Targets,
    /// Linear layers that `targets` matches but that stay as they are.
    #[schemars(extend("examples" = [["down_proj"]]))]
    pub exclude: Exclude,
    /// Scale by `alpha / sqrt(rank)` instead.
    #[schemars(example = true)]
    pub rslora: bool,
    /// Rank of some layers, where it differs from `rank`: end of the module path (a regular expression) -> rank. The first
    /// that fits counts.
    #[schemars(with = "BTreeMap<String, usize>", extend("additionalProperties" = { "type": "integer", "minimum": 1 }), extend("examples" = [{ "down_proj": 4 }]))]
    pub rank_pattern: IndexMap<String, usize>,
    /// The same for `alpha`.
    #[schemars(with = "BTreeMap<String, f64>", extend("additionalProperties" = { "type": "number", "exclusiveMinimum": 0 }), extend("examples" = [{ "down_proj": 8.0 }]))]
    pub alpha_pattern: IndexMap<String, f64>,
    /// LoRA+ (Hayou et al. 2024, arXiv 2402.12354): the learning rate of `B`, in multiples of the optimiser's, which `A` keeps.
    /// 16 is usual.
    #[schemars(extend("exclusiveMinimum" = 0), example = 16.0)]
    pub loraplus_lr_ratio: f64,
    /// The learning rate of LoRA+ for factors on an embedding. Counts where `loraplus_lr_ratio` is not 1.
    #[schemars(extend("exclusiveMinimum" = 0), example = 1e-5)]
    pub loraplus_lr_embedding: f64,
    /// Numbers of the layers that get an adapter, from 0; all of them when empty.
    #[schemars(example = &[0, 1])]
    pub layers: Vec<usize>,
    /// Names (regular expressions) of the list that `layers` counts in, such as `layers` or `h`; the first numbered list of a
    /// path when empty.
    #[schemars(example = &["layers"])]
    pub layers_pattern: Vec<String>,
    /// Modules of the base that are trained whole beside the adapters, and written with them: ends of module paths, such as
    /// `embed_tokens`, `lm_head` or `norm` (which ends `post_attention_layernorm` too). They have no adapter.
    #[schemars(extend("examples" = [["embed_tokens", "lm_head"]]))]
    pub modules_to_save: Vec<String>,
    /// Which biases of the base are trained too: `none`, `all`, or those of modules with an adapter (`lora_only`).
    #[schemars(example = Bias::LoraOnly)]
    pub bias: Bias,
    /// Where the output head is the embedding and `modules_to_save` has one of them: train both as the one matrix that they are.
    /// Otherwise the head becomes a matrix of its own.
    #[schemars(example = true)]
    pub ensure_weight_tying: bool,
    /// Where `A` and `B` start: `B` at zero and `A` uniform (`kaiming`) or normal (`gaussian`); both random with a product of zero
    /// (`orthogonal`); the largest singular components (`pissa`) or first QR components (`olora`) of the weight, which are then
    /// subtracted, so that what is written is an adapter of twice the rank for the unchanged base. `loftq` (Li et al. 2023, arXiv 2310.08659) needs
    /// `[quantization]`: the largest singular components of what quantization lost, so that the quantized base starts closer to the original;
    /// what is written is again an adapter of twice the rank for the original weights. DoRA takes the first three.
    #[schemars(example = LoraInit::Gaussian)]
    pub init: LoraInit,
    /// A PEFT adapter folder to start from instead of a fresh adapter. Its rank, alpha and targets must be the recipe's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"runs/first/adapter")]
    pub init_from: Option<PathBuf>,
}

impl LoraRecipe {
    /// The same for the adapters crate.
    pub fn config(&self) -> LoraConfig {
        LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            rslora: self.rslora,
            targets: self.targets.selection(),
            exclude: self.exclude.pattern(),
            rank_pattern: self.rank_pattern.clone().into_iter().collect(),
            alpha_pattern: self.alpha_pattern.clone().into_iter().collect(),
            layers: (!self.layers.is_empty())
                .then(|| Layers { indices: self.layers.clone(), patterns: self.layers_pattern.clone() }),
            init: self.init.into(),
            base: TrainedBase {
                modules: self.modules_to_save.clone(),
                biases: self.bias.into(),
                tying: if self.ensure_weight_tying { Tying::Kept } else { Tying::Broken },
            },
        }
    }
}

/// Which biases of the base are trained. The words are PEFT's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    None,
    All,
    /// Those of modules with an adapter.
    LoraOnly,
}

impl From<Bias> for firebrand_adapters::Biases {
    fn from(bias: Bias) -> Self {
        match bias {
            Bias::None => Self::None,
            Bias::All => Self::All,
            Bias::LoraOnly => Self::OfAdapted,
        }
    }
}

/// How the factors of LoRA start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoraInit {
    Kaiming,
    Gaussian,
    Orthogonal,
    Pissa,
    Olora,
    Loftq,
}

impl From<LoraInit> for firebrand_adapters::LoraInit {
    fn from(init: LoraInit) -> Self {
        match init {
            LoraInit::Kaiming => Self::Kaiming,
            LoraInit::Gaussian => Self::Gaussian,
            LoraInit::Orthogonal => Self::Orthogonal,
            LoraInit::Pissa => Self::Pissa,
            LoraInit::Olora => Self::Olora,
            LoraInit::Loftq => Self::Loftq,
        }
    }
}

/// IA3: every output of a linear layer, or every input, is multiplied by a factor of its own. Factors start at 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ia3Recipe {
    /// The linear layers that get factors, as for LoRA. The paper takes keys, values and the last matrix of the MLP.
    #[schemars(extend("examples" = [["k_proj", "v_proj", "down_proj"]]))]
    pub targets: Targets,
    /// Those of them whose inputs are multiplied instead of their outputs: ends of module paths.
    #[schemars(extend("examples" = [["down_proj"]]))]
    pub feedforward: Vec<String>,
    /// Linear layers that `targets` matches but that stay as they are.
    #[schemars(extend("examples" = [["o_proj"]]))]
    pub exclude: Exclude,
    /// Modules of the base that are trained whole, as for LoRA. An output head that is the embedding becomes a matrix of its own.
    #[schemars(extend("examples" = [["lm_head"]]))]
    pub modules_to_save: Vec<String>,
    /// A PEFT adapter folder to start from instead of factors of 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"runs/first/adapter")]
    pub init_from: Option<PathBuf>,
}

impl Ia3Recipe {
    /// The same for the adapters crate.
    pub fn config(&self) -> Ia3Config {
        Ia3Config {
            targets: self.targets.selection(),
            exclude: self.exclude.pattern(),
            feedforward: ModulePattern::Suffixes(self.feedforward.clone()),
            base: TrainedBase { modules: self.modules_to_save.clone(), ..TrainedBase::default() },
        }
    }
}

/// Which linear layers get an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Targets {
    Preset(TargetPreset),
    /// Module names or path suffixes, as in PEFT: `q_proj`, `layers.0.self_attn.q_proj`.
    Names(Vec<String>),
    Regex(ModuleRegex),
}

impl Targets {
    fn selection(&self) -> firebrand_adapters::Targets {
        match self {
            Targets::Preset(TargetPreset::AllLinear) => firebrand_adapters::Targets::AllLinear,
            Targets::Names(names) => firebrand_adapters::Targets::Pattern(ModulePattern::Suffixes(names.clone())),
            Targets::Regex(ModuleRegex { regex }) => {
                firebrand_adapters::Targets::Pattern(ModulePattern::Regex(regex.clone()))
            }
        }
    }
}

/// A named set of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TargetPreset {
    /// Every linear layer except the output head.
    AllLinear,
}

/// Which targeted layers are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Exclude {
    Names(Vec<String>),
    Regex(ModuleRegex),
}

impl Exclude {
    fn pattern(&self) -> Option<ModulePattern> {
        match self {
            Exclude::Names(names) if names.is_empty() => None,
            Exclude::Names(names) => Some(ModulePattern::Suffixes(names.clone())),
            Exclude::Regex(ModuleRegex { regex }) => Some(ModulePattern::Regex(regex.clone())),
        }
    }
}

/// A regular expression over whole module paths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModuleRegex {
    /// Must match the whole path, as `re.fullmatch` does.
    #[schemars(example = &r".*\.layers\.[0-3]\..*_proj")]
    pub regex: String,
}

impl From<Option<AdapterSection>> for Method {
    fn from(section: Option<AdapterSection>) -> Self {
        match section {
            None => Method::Full,
            Some(AdapterSection::Lora(lora)) => Method::Lora(Box::new(lora)),
            Some(AdapterSection::Dora(lora)) => Method::Dora(Box::new(lora)),
            Some(AdapterSection::Ia3(ia3)) => Method::Ia3(Box::new(ia3)),
        }
    }
}

impl From<&Method> for Option<AdapterSection> {
    fn from(method: &Method) -> Self {
        match method {
            Method::Full => None,
            Method::Lora(lora) => Some(AdapterSection::Lora(lora.as_ref().clone())),
            Method::Dora(lora) => Some(AdapterSection::Dora(lora.as_ref().clone())),
            Method::Ia3(ia3) => Some(AdapterSection::Ia3(ia3.as_ref().clone())),
        }
    }
}
