//! Mistral (Jiang et al. 2023, arXiv:2310.06825). `model_type` "mistral"; reference: transformers
//! `models/mistral/modeling_mistral.py`.
//!
//! LLaMA with a sliding window: a token sees the last `sliding_window` tokens, itself included. Where the key is absent
//! the reference takes 4096; `null` means no window.

use super::common::{Gated, Names};
use super::defaults::Silent;
use super::llama;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, Sight, Window};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["mistral"],
    models: "Mistral 7B, Zephyr",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Mistral,
    silent: &[
        (&["vocab_size"], Silent::Size(32_000)),
        (&["hidden_size"], Silent::Size(4096)),
        (&["intermediate_size"], Silent::Size(14_336)),
        (&["num_hidden_layers"], Silent::Size(32)),
        (&["num_attention_heads"], Silent::Heads(32)),
        (&["num_key_value_heads"], Silent::Size(8)),
        (&["max_position_embeddings"], Silent::Size(131_072)),
        (&["rms_norm_eps"], Silent::Number(1e-6)),
        (&["hidden_act"], Silent::Text("silu")),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "MistralForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = Gated::default().decoder(config)?;
    llama::whole_head(config, &decoder)?;
    let silent = (!config.says("sliding_window")).then_some(4096);
    let window = config.optional_size("sliding_window")?.or(silent);
    let window = window.map_or(Window::Full, Window::Sliding);
    Ok(DecoderConfig {
        block: BlockConfig {
            attention: AttentionConfig { sight: Sight::Causal(window), ..decoder.block.attention },
            ..decoder.block
        },
        ..decoder
    })
}

/// The names of tensors.
pub(super) fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::llama()
        .split_qkv("self_attn")
        .gated_mlp()
        .linear("norms.attention", "input_layernorm")
        .linear("norms.mlp", "post_attention_layernorm")
        .rules()
}
