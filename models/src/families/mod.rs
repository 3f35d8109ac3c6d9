//! The families of models: each file describes one architecture by what differs from the shared parts, as a [`Family`].
//!
//! A family file has, in this order: its module doc with its oddities, its [`Definition`], `config` (from `config.json`
//! to the configuration of a network), and `rules` (our tensor names and those of files). What several families share
//! is in `common.rs`; `blocks.rs` writes the configuration of a model with fewer blocks. To add one: the file, a line `mod`, a line in `families!`; then a golden, a recipe and a README
//! row.

mod alibi;
mod blocks;
mod bloom;
mod classifier;
mod clip;
mod common;
mod defaults;
mod dinov2;
mod dinov2_with_registers;
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
pub(crate) mod stable_diffusion;

pub use classifier::ClassNames;
pub(crate) use classifier::{OF_TEXTS, SCORE_MODULES};
use defaults::Entry;
use firebrand_adapters::peft::Task;
use serde::Serialize;
pub use stable_diffusion::sampler as sampler_of;

use crate::decoder::{Decoder, DecoderConfig};
use crate::diffusion::DiffusionConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::image::ImageConfig;
use crate::network::{Kind, NetworkConfig};
use crate::quantization_config::{self, FourBitConfig};
use crate::towers::TowersConfig;
use crate::weights::{Rule, RuleSet};
use crate::wording::clip;

/// The definition of a family.
#[derive(Debug)]
pub struct Definition {
    /// Every `model_type` under which it was published, the current one first.
    names: &'static [&'static str],
    /// Models published under this architecture, for display.
    models: &'static str,
    /// The modules that PEFT adapts by default.
    targets: &'static [&'static str],
    /// The prompt of its base models.
    prompt: BasePrompt,
    /// What the reference takes for keys that a file lacks and the family needs.
    silent: &'static [Entry],
    /// Its kind of network, and how files describe it.
    network: NetworkDefinition,
}

/// How the `config.json` of a family is read and its tensors are named, by kind of network.
#[derive(Debug)]
enum NetworkDefinition {
    Decoder {
        config: fn(&HfConfig) -> Result<DecoderConfig, ModelError>,
        rules: fn(&DecoderConfig) -> Vec<Rule>,
        /// The class in transformers of its sequence classifiers.
        classifier: &'static str,
    },
    Towers {
        config: fn(&HfConfig) -> Result<TowersConfig, ModelError>,
        rules: fn(&TowersConfig) -> Vec<Rule>,
        class: TransformersClass,
    },
    Image {
        config: fn(&HfConfig) -> Result<ImageConfig, ModelError>,
        rules: fn(&ImageConfig) -> Vec<Rule>,
        /// That of its classifiers.
        class: TransformersClass,
    },
    Diffusion {
        config: fn(&HfConfig) -> Result<DiffusionConfig, ModelError>,
        rules: fn(&DiffusionConfig) -> Vec<Rule>,
    },
}

/// The class of a model in transformers, by which PEFT finds it where PEFT has no task for it.
#[derive(Debug)]
struct TransformersClass {
    name: &'static str,
    module: &'static str,
}

/// The prompt that the publishers of a family's base models document, or a plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BasePrompt {
    /// Instruction and response under headings.
    Alpaca,
    /// `User:` and `Assistant:`, as Falcon's publishers write it.
    Falcon,
    /// `[INST]`.
    Mistral,
    /// The format of OLMo 2.
    Olmo2,
    /// `<human>:` and `<bot>:`.
    RedPajama,
    /// `USER:` and `ASSISTANT:`.
    Vicuna,
    /// None: the family's models write no text.
    Wordless,
}

macro_rules! families {
    ($($(#[$doc:meta])* $variant:ident => $file:ident,)*) => {
        /// An architecture, by the `model_type` of its `config.json`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Family {
            $($(#[$doc])* $variant,)*
        }

        impl Family {
            /// All families.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            fn definition(self) -> &'static Definition {
                match self {
                    $(Self::$variant => &$file::FAMILY,)*
                }
            }
        }
    };
}

families! {
    /// LLaMA 1 to 3, Yi, SmolLM and other models of that architecture.
    Llama => llama,
    /// Mistral: LLaMA with a sliding window.
    Mistral => mistral,
    /// Mixtral: Mistral with experts.
    Mixtral => mixtral,
    /// Gemma 1.
    Gemma => gemma,
    /// Gemma 2.
    Gemma2 => gemma2,
    /// Gemma 3, text models.
    Gemma3 => gemma3,
    /// Falcon, all three shapes.
    Falcon => falcon,
    /// GPT-NeoX, Pythia, RedPajama-INCITE.
    GptNeox => gpt_neox,
    /// GPT-J.
    GptJ => gptj,
    /// GPT-Neo.
    GptNeo => gpt_neo,
    /// OPT.
    Opt => opt,
    /// BLOOM.
    Bloom => bloom,
    /// Qwen 2 and 2.5.
    Qwen2 => qwen2,
    /// Qwen 3, dense.
    Qwen3 => qwen3,
    /// Phi-1 and 2.
    Phi => phi,
    /// Phi-3.
    Phi3 => phi3,
    /// OLMo 2.
    Olmo2 => olmo2,
    /// SmolLM 3.
    SmolLm3 => smollm3,
    /// GPT-2.
    Gpt2 => gpt2,
    /// MPT.
    Mpt => mpt,
    /// CLIP: an image tower and a text tower.
    Clip => clip,
    /// DINOv2: a transformer over images.
    Dinov2 => dinov2,
    /// DINOv2 with registers.
    Dinov2WithRegisters => dinov2_with_registers,
    /// Stable Diffusion 1.x, 2.x and XL: the UNet of a pipeline.
    StableDiffusion => stable_diffusion,
}

/// PEFT's name for the matrix of the output head, whatever files call it.
pub(crate) const HEAD_FOR_PEFT: &str = "lm_head.weight";

impl Family {
    /// The family of a `config.json`.
    ///
    /// # Errors
    /// A `model_type` that no family has.
    pub fn of(config: &HfConfig) -> Result<Self, ModelError> {
        // diffusers names a class where transformers names a type.
        let key = if config.says("model_type") || !config.says("_class_name") { "model_type" } else { "_class_name" };
        let name = config.string(key)?;
        Self::ALL.iter().copied().find(|family| family.names().contains(&name)).ok_or_else(|| {
            let known = Self::ALL.iter().map(|family| family.name()).collect::<Vec<_>>().join(", ");
            ModelError::UnknownFamily { path: config.path().to_owned(), known, found: stranger(config, name) }
        })
    }

    /// Its `model_type`.
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    /// Every `model_type` under which it was published, the current one first.
    pub fn names(self) -> &'static [&'static str] {
        self.definition().names
    }

    /// Models published under this architecture, for display.
    pub fn models(self) -> &'static str {
        self.definition().models
    }

    /// The kind of its networks without a head for classes.
    pub fn kind(self) -> Kind {
        match self.definition().network {
            NetworkDefinition::Decoder { .. } => Kind::Decoder,
            NetworkDefinition::Towers { .. } => Kind::Towers,
            NetworkDefinition::Image { .. } => Kind::Image,
            NetworkDefinition::Diffusion { .. } => Kind::Diffusion,
        }
    }

    /// The prompt of its base models.
    pub fn prompt(self) -> BasePrompt {
        self.definition().prompt
    }

    /// The modules PEFT adapts by default.
    pub fn default_targets(self) -> &'static [&'static str] {
        self.definition().targets
    }

    /// The class in transformers of its classifiers; absent where there is none.
    pub(crate) fn classifier(self) -> Option<&'static str> {
        match &self.definition().network {
            NetworkDefinition::Decoder { classifier, .. } => Some(classifier),
            NetworkDefinition::Image { class, .. } => Some(class.name),
            NetworkDefinition::Towers { .. } | NetworkDefinition::Diffusion { .. } => None,
        }
    }

    /// The name, in PEFT and in files, of the module of its scores for classes; absent where there is none.
    pub fn score_module(self) -> Option<&'static str> {
        match self.definition().network {
            NetworkDefinition::Decoder { .. } => Some(classifier::SCORE_OF_TEXTS),
            NetworkDefinition::Image { .. } => Some(classifier::SCORE_OF_IMAGES),
            NetworkDefinition::Towers { .. } | NetworkDefinition::Diffusion { .. } => None,
        }
    }

    /// The PEFT task type of its models of a kind.
    pub(crate) fn peft_task(self, kind: Kind) -> Task {
        match (&self.definition().network, kind) {
            (NetworkDefinition::Decoder { .. }, Kind::Classifier) => Task::Classification,
            (NetworkDefinition::Decoder { .. }, Kind::Decoder | Kind::Towers | Kind::Image | Kind::Diffusion) => {
                Task::CausalLm
            }
            (NetworkDefinition::Diffusion { .. }, _) => {
                Task::Plain { class: self.name().into(), library: "diffusers.models.unets.unet_2d_condition".into() }
            }
            (NetworkDefinition::Towers { class, .. } | NetworkDefinition::Image { class, .. }, _) => {
                Task::Plain { class: class.name.into(), library: class.module.into() }
            }
        }
    }

    /// The name of its files of weights, before their ending.
    pub(crate) fn weights_file(self) -> &'static str {
        match self.definition().network {
            NetworkDefinition::Decoder { .. } | NetworkDefinition::Towers { .. } | NetworkDefinition::Image { .. } => {
                "model"
            }
            NetworkDefinition::Diffusion { .. } => "diffusion_pytorch_model",
        }
    }

    /// Whether its `config.json` states the dtype of the weights.
    pub(crate) fn states_dtype(self) -> bool {
        match self.definition().network {
            NetworkDefinition::Decoder { .. } | NetworkDefinition::Towers { .. } | NetworkDefinition::Image { .. } => {
                true
            }
            NetworkDefinition::Diffusion { .. } => false,
        }
    }

    /// Whether its folders in 4 bits can be read and written. Which maps of other networks than decoders transformers quantizes,
    /// and how it names the others, is not known here.
    pub(crate) fn has_quantized_folders(self) -> bool {
        match self.kind() {
            Kind::Decoder | Kind::Classifier => true,
            Kind::Towers | Kind::Image | Kind::Diffusion => false,
        }
    }

    /// Sizes and variants of the network. Keys that the file lacks have the values that the reference takes.
    ///
    /// # Errors
    /// A key that is missing and has no such value, wrong or not supported.
    pub fn config(self, config: &HfConfig) -> Result<NetworkConfig, ModelError> {
        let (config, _) = &defaults::completed(self.definition().silent, config);
        if FourBitConfig::of(config)?.is_some() && !self.has_quantized_folders() {
            let expected =
                format!("a folder of weights in f32, f16 or bf16: quantized ones of {} are not read", self.name());
            return Err(config.wrong(quantization_config::KEY, expected, "4 bits"));
        }
        Ok(match self.definition().network {
            NetworkDefinition::Decoder { config: read, .. } => NetworkConfig::Decoder(DecoderConfig {
                classes: classifier::classes(config, classifier::OF_TEXTS)?,
                padding: classifier::padding(config)?,
                ..read(config)?
            }),
            NetworkDefinition::Towers { config: read, .. } => NetworkConfig::Towers(read(config)?),
            NetworkDefinition::Image { config: read, .. } => NetworkConfig::Image(ImageConfig {
                classes: classifier::classes(config, classifier::OF_IMAGES)?,
                ..read(config)?
            }),
            NetworkDefinition::Diffusion { config: read, .. } => NetworkConfig::Diffusion(read(config)?),
        })
    }

    /// What to tell a user of the values of [`Self::config`] that no file states.
    pub(crate) fn notes(self, config: &HfConfig) -> Vec<String> {
        defaults::notes(self.definition().silent, config)
    }

    /// The error that keys or weights do not fit a size that no file states, if there is such a size; otherwise `error`.
    pub(crate) fn explain(self, config: &HfConfig, error: ModelError) -> ModelError {
        defaults::explain(self.definition().silent, config, error)
    }

    /// Error: a size that no file states, and that new weights cannot show.
    pub(crate) fn check_sizes(self, config: &HfConfig) -> Result<(), ModelError> {
        defaults::refuse_shapes(self.definition().silent, config)
    }

    /// The names of tensors for a network of this family.
    ///
    /// # Errors
    /// Rules that contradict each other, which a test excludes; a network of another kind.
    pub fn rules(self, network: &NetworkConfig) -> Result<RuleSet, ModelError> {
        let rules = match (&self.definition().network, network) {
            (NetworkDefinition::Decoder { rules, .. }, NetworkConfig::Decoder(decoder)) => {
                let mut rules = rules(decoder);
                rules.push(Rule::same(Decoder::SCORE));
                rules
            }
            (NetworkDefinition::Towers { rules, .. }, NetworkConfig::Towers(towers)) => rules(towers),
            (NetworkDefinition::Image { rules, .. }, NetworkConfig::Image(image)) => rules(image),
            (NetworkDefinition::Diffusion { rules, .. }, NetworkConfig::Diffusion(diffusion)) => rules(diffusion),
            (
                NetworkDefinition::Decoder { .. }
                | NetworkDefinition::Towers { .. }
                | NetworkDefinition::Image { .. }
                | NetworkDefinition::Diffusion { .. },
                NetworkConfig::Decoder(_)
                | NetworkConfig::Towers(_)
                | NetworkConfig::Image(_)
                | NetworkConfig::Diffusion(_),
            ) => {
                let problem = format!("it is of a {}, not of a {}", self.kind(), network.kind());
                return Err(ModelError::Rules { rule: self.name().into(), problem });
            }
        };
        RuleSet::new(rules)
    }
}

/// What a configuration of an unknown `model_type` says of its model.
fn stranger(config: &HfConfig, name: &str) -> String {
    let mut found = format!("{:?}", clip(name));
    let classes = config.optional_strings("architectures").ok().flatten().unwrap_or_default();
    if let Some(class) = classes.first() {
        found.push_str(&format!(" ({})", clip(class)));
    }
    let part = |key: &str| config.section(key).ok().flatten();
    if let Some(text) = ["text_config", "llm_config", "language_config"].into_iter().find_map(part) {
        let inner = text.optional_string("model_type").ok().flatten().map(clip);
        found.push_str(", a model of several parts");
        match inner {
            Some(inner) if Family::ALL.iter().any(|family| family.names().contains(&inner.as_str())) => {
                found.push_str(&format!(
                    ", whose text part is a {inner}: that part alone, saved as a folder of its own, can be trained"
                ))
            }
            Some(inner) => found.push_str(&format!(", whose text part is a {inner}")),
            None => {}
        }
    } else if config.says("vision_config") || config.says("audio_config") {
        found.push_str(", a model of several parts");
    }
    if let Some(code) = config.section("auto_map").ok().flatten() {
        let file = code.map().values().find_map(|value| value.as_str()).unwrap_or_default();
        let file = file.rsplit("--").next().unwrap_or_default().split('.').next().unwrap_or_default();
        found.push_str(&format!(", which comes as code in its folder ({}.py)", clip(file)));
    }
    found
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
    fn an_unknown_architecture_is_told_by_its_class_its_parts_and_its_code() {
        let told = |text: &str| Family::of(&HfConfig::from_json("config.json", text).unwrap()).unwrap_err().to_string();
        for (text, says) in [
            (r#"{"model_type": "bert", "architectures": ["BertForMaskedLM"]}"#, r#""bert" (BertForMaskedLM)"#),
            (
                r#"{"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"model_type": "gemma3_text"}}"#,
                "whose text part is a gemma3_text: that part alone, saved as a folder of its own, can be trained",
            ),
            (r#"{"model_type": "qwen2_vl", "vision_config": {}}"#, "a model of several parts"),
            (
                r#"{"model_type": "internlm2", "auto_map": {"AutoModel": "modeling_internlm2.InternLM2Model"}}"#,
                "comes as code in its folder (modeling_internlm2.py)",
            ),
        ] {
            assert!(told(text).contains(says), "{}", told(text));
        }
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
