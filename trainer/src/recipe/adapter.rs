//! `[adapter]`: what is trained. Without the section every weight is, with it only small matrices beside frozen ones.
//!
//! The keys mean what PEFT's do. LoRA: Hu et al. 2021 (arXiv 2106.09685); rank-stabilised scale: Kalajdzievski 2023
//! (arXiv 2312.03732); DoRA: Liu et al. 2024 (arXiv 2402.09353). Not here: matching targets against a model, which needs the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firebrand_adapters::{AdapterConfig, LoraConfig, ModulePattern};
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
}

/// Trains a small adapter beside the frozen model. Leave the section out for full fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AdapterSection {
    Lora(LoraRecipe),
    Dora(LoraRecipe),
}

impl Method {
    /// How adapters are made; absent where every weight is trained.
    pub fn adapter(&self) -> Option<AdapterConfig> {
        match self {
            Method::Full => None,
            Method::Lora(lora) => Some(AdapterConfig::Lora(lora.config())),
            Method::Dora(lora) => Some(AdapterConfig::Dora(lora.config())),
        }
    }

    /// The adapter folder to start from.
    pub fn init_from(&self) -> Option<&Path> {
        match self {
            Method::Full => None,
            Method::Lora(lora) | Method::Dora(lora) => lora.init_from.as_deref(),
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
    /// The linear layers that get an adapter: every one except the output head, module names or path suffixes, or a
    /// regular expression that must match the whole module path.
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
            targets: match &self.targets {
                Targets::Preset(TargetPreset::AllLinear) => firebrand_adapters::Targets::AllLinear,
                Targets::Names(names) => firebrand_adapters::Targets::Pattern(ModulePattern::Suffixes(names.clone())),
                Targets::Regex(ModuleRegex { regex }) => {
                    firebrand_adapters::Targets::Pattern(ModulePattern::Regex(regex.clone()))
                }
            },
            exclude: match &self.exclude {
                Exclude::Names(names) if names.is_empty() => None,
                Exclude::Names(names) => Some(ModulePattern::Suffixes(names.clone())),
                Exclude::Regex(ModuleRegex { regex }) => Some(ModulePattern::Regex(regex.clone())),
            },
            rank_pattern: self.rank_pattern.clone().into_iter().collect(),
            alpha_pattern: self.alpha_pattern.clone().into_iter().collect(),
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
        }
    }
}

impl From<&Method> for Option<AdapterSection> {
    fn from(method: &Method) -> Self {
        match method {
            Method::Full => None,
            Method::Lora(lora) => Some(AdapterSection::Lora(lora.as_ref().clone())),
            Method::Dora(lora) => Some(AdapterSection::Dora(lora.as_ref().clone())),
        }
    }
}
