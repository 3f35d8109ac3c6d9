//! The families: a file each, which says only what is different.
//!
//! A family file has, in this order: what it is and its oddities, `DEFAULT_TARGETS` (the modules PEFT adapts when asked for
//! nothing special), `config` (its `config.json` as a [`DecoderConfig`]), `rules` (our tensor names and theirs). What several
//! share is in `common.rs`. Adding one: the file, a line in each `match` here, a golden, a recipe, a README row.

mod alibi;
mod bloom;
mod common;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod llama;
mod mistral;
mod mixtral;
mod mpt;
mod olmo2;
mod opt;
mod phi;
mod phi3;
mod qwen2;
mod qwen3;
mod smollm3;

use serde::Serialize;

use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::quantization_config::FourBitConfig;
use crate::transformer::DecoderConfig;
use crate::weights::{Rule, RuleSet};

/// An architecture, by the `model_type` of its `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// LLaMA 1 to 3, Yi, SmolLM and everything else of that architecture.
    Llama,
    /// Mistral: LLaMA with a window.
    Mistral,
    /// Mixtral: Mistral with experts.
    Mixtral,
    /// Gemma 1.
    Gemma,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, text models.
    Gemma3,
    /// Falcon, all three shapes.
    Falcon,
    /// GPT-NeoX, Pythia, RedPajama-INCITE.
    GptNeox,
    /// GPT-J.
    GptJ,
    /// GPT-Neo.
    GptNeo,
    /// OPT.
    Opt,
    /// BLOOM.
    Bloom,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
    /// Phi-1 and 2.
    Phi,
    /// Phi-3.
    Phi3,
    /// OLMo 2.
    Olmo2,
    /// SmolLM 3.
    SmolLm3,
    /// GPT-2.
    Gpt2,
    /// MPT.
    Mpt,
}

/// What PEFT calls a parameter of the output head (`weight`, `bias`), whatever files call it.
pub(crate) fn head_for_peft(part: &str) -> String {
    format!("lm_head.{part}")
}

impl Family {
    /// All families.
    pub const ALL: &[Self] = &[
        Self::Llama,
        Self::Mistral,
        Self::Mixtral,
        Self::Gemma,
        Self::Gemma2,
        Self::Gemma3,
        Self::Falcon,
        Self::GptNeox,
        Self::GptJ,
        Self::GptNeo,
        Self::Opt,
        Self::Bloom,
        Self::Qwen2,
        Self::Qwen3,
        Self::Phi,
        Self::Phi3,
        Self::Olmo2,
        Self::SmolLm3,
        Self::Gpt2,
        Self::Mpt,
    ];

    /// The family of a configuration.
    ///
    /// # Errors
    /// A `model_type` that no family has.
    pub fn of(config: &HfConfig) -> Result<Self, ModelError> {
        let name = config.string("model_type")?;
        Self::ALL.iter().copied().find(|family| family.names().contains(&name)).ok_or_else(|| {
            let known = Self::ALL.iter().map(|family| family.name()).collect::<Vec<_>>().join(", ");
            config.wrong("model_type", format!("a supported family ({known})"), format!("{name:?}"))
        })
    }

    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    /// Every `model_type` under which it was published, the present one first.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Llama => &["llama"],
            Self::Mistral => &["mistral"],
            Self::Mixtral => &["mixtral"],
            Self::Gemma => &["gemma"],
            Self::Gemma2 => &["gemma2"],
            Self::Gemma3 => &["gemma3_text"],
            Self::Falcon => &["falcon", "RefinedWeb", "RefinedWebModel"],
            Self::GptNeox => &["gpt_neox"],
            Self::GptJ => &["gptj"],
            Self::GptNeo => &["gpt_neo"],
            Self::Opt => &["opt"],
            Self::Bloom => &["bloom"],
            Self::Qwen2 => &["qwen2"],
            Self::Qwen3 => &["qwen3"],
            Self::Phi => &["phi"],
            Self::Phi3 => &["phi3"],
            Self::Olmo2 => &["olmo2"],
            Self::SmolLm3 => &["smollm3"],
            Self::Gpt2 => &["gpt2"],
            Self::Mpt => &["mpt"],
        }
    }

    /// What is published under this architecture, for people.
    pub fn models(self) -> &'static str {
        match self {
            Self::Llama => "LLaMA 1, 2, 3, 3.1, 3.2; Yi; SmolLM, SmolLM2",
            Self::Mistral => "Mistral 7B, Zephyr",
            Self::Mixtral => "Mixtral 8x7B, 8x22B",
            Self::Gemma => "Gemma 2B, 7B; CodeGemma",
            Self::Gemma2 => "Gemma 2 2B, 9B, 27B",
            Self::Gemma3 => "Gemma 3 270M, 1B (text models)",
            Self::Falcon => "Falcon 7B, 40B, 180B, RW",
            Self::GptNeox => "GPT-NeoX-20B; Pythia; RedPajama-INCITE",
            Self::GptJ => "GPT-J 6B",
            Self::GptNeo => "GPT-Neo 125M, 1.3B, 2.7B",
            Self::Opt => "OPT 125M to 66B",
            Self::Bloom => "BLOOM, BLOOMZ",
            Self::Qwen2 => "Qwen 2, 2.5",
            Self::Qwen3 => "Qwen 3 (dense)",
            Self::Phi => "Phi-1, 1.5, 2",
            Self::Phi3 => "Phi-3, Phi-3.5 (mini, medium); Phi-4",
            Self::Olmo2 => "OLMo 2",
            Self::SmolLm3 => "SmolLM 3",
            Self::Gpt2 => "GPT-2",
            Self::Mpt => "MPT 7B, 30B",
        }
    }

    /// Sizes and variants of the decoder.
    ///
    /// # Errors
    /// A key that is missing, wrong or not supported.
    pub fn config(self, config: &HfConfig) -> Result<DecoderConfig, ModelError> {
        FourBitConfig::of(config)?;
        match self {
            Self::Llama => llama::config(config),
            Self::Mistral => mistral::config(config),
            Self::Mixtral => mixtral::config(config),
            Self::Gemma => gemma::config(config),
            Self::Gemma2 => gemma2::config(config),
            Self::Gemma3 => gemma3::config(config),
            Self::Falcon => falcon::config(config),
            Self::GptNeox => gpt_neox::config(config),
            Self::GptJ => gptj::config(config),
            Self::GptNeo => gpt_neo::config(config),
            Self::Opt => opt::config(config),
            Self::Bloom => bloom::config(config),
            Self::Qwen2 => qwen2::config(config),
            Self::Qwen3 => qwen3::config(config),
            Self::Phi => phi::config(config),
            Self::Phi3 => phi3::config(config),
            Self::Olmo2 => olmo2::config(config),
            Self::SmolLm3 => smollm3::config(config),
            Self::Gpt2 => gpt2::config(config),
            Self::Mpt => mpt::config(config),
        }
    }

    /// Names of tensors, for a decoder of this family.
    ///
    /// # Errors
    /// Rules that contradict each other, which a test rules out.
    pub fn rules(self, decoder: &DecoderConfig) -> Result<RuleSet, ModelError> {
        let rules: Vec<Rule> = match self {
            Self::Llama => llama::rules(),
            Self::Mistral => mistral::rules(),
            Self::Mixtral => mixtral::rules(),
            Self::Gemma => gemma::rules(),
            Self::Gemma2 => gemma2::rules(),
            Self::Gemma3 => gemma3::rules(),
            Self::Falcon => falcon::rules(decoder.residual),
            Self::GptNeox => gpt_neox::rules(),
            Self::GptJ => gptj::rules(),
            Self::GptNeo => gpt_neo::rules(),
            Self::Opt => opt::rules(),
            Self::Bloom => bloom::rules(),
            Self::Qwen2 => qwen2::rules(),
            Self::Qwen3 => qwen3::rules(),
            Self::Phi => phi::rules(),
            Self::Phi3 => phi3::rules(),
            Self::Olmo2 => olmo2::rules(),
            Self::SmolLm3 => smollm3::rules(),
            Self::Gpt2 => gpt2::rules(),
            Self::Mpt => mpt::rules(),
        };
        RuleSet::new(rules)
    }

    /// The modules PEFT adapts by default.
    pub fn default_targets(self) -> &'static [&'static str] {
        match self {
            Self::Llama => llama::DEFAULT_TARGETS,
            Self::Mistral => mistral::DEFAULT_TARGETS,
            Self::Mixtral => mixtral::DEFAULT_TARGETS,
            Self::Gemma => gemma::DEFAULT_TARGETS,
            Self::Gemma2 => gemma2::DEFAULT_TARGETS,
            Self::Gemma3 => gemma3::DEFAULT_TARGETS,
            Self::Falcon => falcon::DEFAULT_TARGETS,
            Self::GptNeox => gpt_neox::DEFAULT_TARGETS,
            Self::GptJ => gptj::DEFAULT_TARGETS,
            Self::GptNeo => gpt_neo::DEFAULT_TARGETS,
            Self::Opt => opt::DEFAULT_TARGETS,
            Self::Bloom => bloom::DEFAULT_TARGETS,
            Self::Qwen2 => qwen2::DEFAULT_TARGETS,
            Self::Qwen3 => qwen3::DEFAULT_TARGETS,
            Self::Phi => phi::DEFAULT_TARGETS,
            Self::Phi3 => phi3::DEFAULT_TARGETS,
            Self::Olmo2 => olmo2::DEFAULT_TARGETS,
            Self::SmolLm3 => smollm3::DEFAULT_TARGETS,
            Self::Gpt2 => gpt2::DEFAULT_TARGETS,
            Self::Mpt => mpt::DEFAULT_TARGETS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_model_type_lists_the_known_ones() {
        let config = HfConfig::from_json("config.json", r#"{"model_type": "lama"}"#).unwrap();
        let error = Family::of(&config).unwrap_err().to_string();
        assert!(error.contains("`model_type`") && error.contains("llama") && error.contains("lama"), "{error}");
    }

    #[test]
    fn no_two_families_share_a_name() {
        let mut names: Vec<&str> = Family::ALL.iter().flat_map(|family| family.names()).copied().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
