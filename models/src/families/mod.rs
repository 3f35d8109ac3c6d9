//! The families: a file each, which says only what is different.
//!
//! A family file has, in this order: what it is and its oddities, `config` (its `config.json` as a [`DecoderConfig`]),
//! `rules` (our tensor names and theirs), `DEFAULT_TARGETS` (the modules PEFT adapts when asked for nothing special).
//! Adding one: the file, a line in each `match` here, a golden, a recipe, a README row.

mod llama;

use serde::Serialize;

use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::transformer::DecoderConfig;
use crate::weights::{Rule, RuleSet};

/// An architecture, by the `model_type` of its `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// LLaMA 1 to 3, Yi, SmolLM and everything else of that architecture.
    Llama,
}

impl Family {
    /// All families.
    pub const ALL: &[Self] = &[Self::Llama];

    /// The family of a configuration.
    ///
    /// # Errors
    /// A `model_type` that no family has.
    pub fn of(config: &HfConfig) -> Result<Self, ModelError> {
        let name = config.string("model_type")?;
        Self::ALL.iter().copied().find(|family| family.name() == name).ok_or_else(|| {
            let known = Self::ALL.iter().map(|family| family.name()).collect::<Vec<_>>().join(", ");
            config.wrong("model_type", format!("a supported family ({known})"), format!("{name:?}"))
        })
    }

    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
        }
    }

    /// What is published under this architecture, for people.
    pub fn models(self) -> &'static str {
        match self {
            Self::Llama => "LLaMA 1, 2, 3, 3.1, 3.2; Yi; SmolLM, SmolLM2",
        }
    }

    /// Sizes and variants of the decoder.
    ///
    /// # Errors
    /// A key that is missing, wrong or not supported.
    pub fn config(self, config: &HfConfig) -> Result<DecoderConfig, ModelError> {
        match self {
            Self::Llama => llama::config(config),
        }
    }

    /// Names of tensors.
    ///
    /// # Errors
    /// Rules that contradict each other, which a test rules out.
    pub fn rules(self) -> Result<RuleSet, ModelError> {
        let rules: Vec<Rule> = match self {
            Self::Llama => llama::rules(),
        };
        RuleSet::new(rules)
    }

    /// The modules PEFT adapts by default.
    pub fn default_targets(self) -> &'static [&'static str] {
        match self {
            Self::Llama => llama::DEFAULT_TARGETS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_consistent() {
        for family in Family::ALL {
            family.rules().unwrap();
        }
    }

    #[test]
    fn an_unknown_model_type_lists_the_known_ones() {
        let config = HfConfig::from_json("config.json", r#"{"model_type": "lama"}"#).unwrap();
        let error = Family::of(&config).unwrap_err().to_string();
        assert!(error.contains("`model_type`") && error.contains("llama") && error.contains("lama"), "{error}");
    }
}
