//! Qwen 2 and 2.5 (2024, arXiv:2407.10671). `model_type` "qwen2"; reference: transformers
//! `models/qwen2/modeling_qwen2.py`.
//!
//! LLaMA with biases on q, k and v. With `use_sliding_window` the layers from `max_window_layers` on have a sliding
//! window; the published models leave it off, although they hold a `sliding_window`.

use super::common::{Gated, windows};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use super::{llama, mistral};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, Sight, Window};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["qwen2"],
    models: "Qwen 2, 2.5",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(151_936)),
        (&["hidden_size"], Silent::Size(4096)),
        (&["intermediate_size"], Silent::Size(22_016)),
        (&["num_hidden_layers"], Silent::Size(32)),
        (&["num_attention_heads"], Silent::Heads(32)),
        (&["num_key_value_heads"], Silent::Size(32)),
        (&["max_position_embeddings"], Silent::Size(32_768)),
        (&["rms_norm_eps"], Silent::Number(1e-6)),
        (&["hidden_act"], Silent::Text("silu")),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "Qwen2ForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = Gated::default().decoder(config)?;
    llama::whole_head(config, &decoder)?;
    let window = late_windows(config, decoder.layers)?;
    Ok(DecoderConfig {
        block: BlockConfig {
            attention: AttentionConfig { qkv_bias: true, sight: Sight::Causal(window), ..decoder.block.attention },
            ..decoder.block
        },
        ..decoder
    })
}

/// The windows of Qwen 2 and 3.
pub(super) fn late_windows(config: &HfConfig, layers: usize) -> Result<Window, ModelError> {
    if !config.bool_or("use_sliding_window", false)? {
        return windows(config, layers, None, |_| false);
    }
    let silent = (!config.says("sliding_window")).then_some(4096);
    let window = config.optional_size("sliding_window")?.or(silent);
    let first = config.optional_usize("max_window_layers")?.unwrap_or(28);
    windows(config, layers, window, |layer| window.is_some() && layer >= first)
}

/// The names of tensors.
fn rules(decoder: &DecoderConfig) -> Vec<Rule> {
    mistral::rules(decoder)
}
