//! Gemma (2024, arXiv:2403.08295). `model_type` "gemma"; reference: transformers `models/gemma/modeling_gemma.py`.
//!
//! LLaMA with these differences: norms multiply by `1 + w`, token embeddings are multiplied by `sqrt(hidden_size)`,
//! heads are 256 wide whatever `hidden_size` is, the MLP is gated with GELU, and the head is tied. `"hidden_act":
//! "gelu"` in the first files means the tanh approximation. With 16-bit weights the reference rounds the square root;
//! computing in f32 does not.

use firebrand_kernels::Activation;

use super::common::{Gated, activation};
use super::defaults::Silent;
use super::llama;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, EmbeddingConfig, MlpConfig, NormConfig};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["gemma"],
    models: "Gemma 2B, 7B; CodeGemma",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(256_000)),
        (&["hidden_size"], Silent::Size(3072)),
        (&["intermediate_size"], Silent::Size(24_576)),
        (&["num_hidden_layers"], Silent::Size(28)),
        (&["num_attention_heads"], Silent::Size(16)),
        (&["num_key_value_heads"], Silent::Size(16)),
        (&["max_position_embeddings"], Silent::Size(8192)),
        (&["rms_norm_eps"], Silent::Number(1e-6)),
        (&["pad_token_id"], Silent::Size(0)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "GemmaForSequenceClassification" },
};

/// Defaults of Gemma 1, 2 and 3 for missing keys.
pub(super) const GATED: Gated =
    Gated { theta: 10_000.0, tied_head: true, head_dim: Some(256), activation: "hidden_activation" };

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let mut config = config.clone();
    if config.optional_string("hidden_act")?.is_none() {
        config.set("hidden_act", "gelu_pytorch_tanh");
    }
    let config = &config;
    let decoder = Gated { activation: "hidden_act", ..GATED }.decoder(config)?;
    llama::whole_head(config, &decoder)?;
    let meant = |key| match activation(config, key)? {
        Activation::GeluExact => Ok(Activation::GeluTanh),
        other => Ok::<_, ModelError>(other),
    };
    let activation = meant("hidden_act")?;
    // The reference ignores this key, which some files have.
    if let Some(named) = config.optional_string("hidden_activation")?
        && meant("hidden_activation")? != activation
    {
        return Err(config.wrong("hidden_activation", "the same as `hidden_act`", format!("`{named}`")));
    }
    let intermediate_size = decoder.block.mlp.intermediate_size();
    let mlp = MlpConfig::Gated { intermediate_size, activation, bias: false };
    adapted(config, DecoderConfig { block: BlockConfig { mlp, ..decoder.block }, ..decoder })
}

/// The differences from LLaMA that Gemma 1, 2 and 3 share.
pub(super) fn adapted(config: &HfConfig, decoder: DecoderConfig) -> Result<DecoderConfig, ModelError> {
    config.only("use_bidirectional_attention", false)?;
    let bias = config.bool_or("attention_bias", false)?;
    Ok(DecoderConfig {
        embedding: EmbeddingConfig::Scaled((decoder.block.width as f64).sqrt()),
        block: BlockConfig {
            attention: AttentionConfig { qkv_bias: bias, output_bias: bias, ..decoder.block.attention },
            norm: NormConfig::RmsPlusOne { eps: config.positive_f64("rms_norm_eps")? },
            ..decoder.block
        },
        ..decoder
    })
}

/// The names of tensors.
fn rules(decoder: &DecoderConfig) -> Vec<Rule> {
    super::mistral::rules(decoder)
}
