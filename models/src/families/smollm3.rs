//! SmolLM 3 (2025, <https://huggingface.co/blog/smollm3>). `model_type` "smollm3"; reference: transformers
//! `models/smollm3/modeling_smollm3.py`.
//!
//! LLaMA in which some layers have no positions: those with a 0 in `no_rope_layers`, or every
//! `no_rope_layer_interval`-th. With `use_sliding_window` the layers without positions have a sliding window.

use super::common::{Gated, windows};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use super::{llama, mistral};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, PositionConfig, Sight, Window};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["smollm3"],
    models: "SmolLM 3",
    // As in LLaMA; PEFT has no default targets for `smollm3`.
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(128_256)),
        (&["hidden_size"], Silent::Size(2048)),
        (&["intermediate_size"], Silent::Size(11_008)),
        (&["num_hidden_layers"], Silent::Size(36)),
        (&["num_key_value_heads"], Silent::Size(4)),
        (&["max_position_embeddings"], Silent::Size(32_768)),
        (&["rms_norm_eps"], Silent::Number(1e-6)),
        (&["hidden_act"], Silent::Text("silu")),
        (&["pad_token_id"], Silent::Size(128_004)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "SmolLM3ForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = Gated { theta: 2e6, tied_head: true, ..Gated::default() }.decoder(config)?;
    llama::whole_head(config, &decoder)?;
    let rotated = rotated_layers(config, decoder.layers)?;
    let position = match decoder.block.position {
        PositionConfig::Rope { rope, .. } => PositionConfig::RopeByLayer {
            ropes: vec![rope],
            layers: rotated.iter().map(|rotated| rotated.then_some(0)).collect(),
        },
        other => other,
    };
    let window = match config.optional_size("sliding_window")? {
        Some(window) if config.bool_or("use_sliding_window", false)? => {
            windows(config, decoder.layers, Some(window), |layer| !rotated[layer])?
        }
        _ => Window::Full,
    };
    let bias = config.bool_or("attention_bias", false)?;
    Ok(DecoderConfig {
        block: BlockConfig {
            position,
            attention: AttentionConfig {
                qkv_bias: bias,
                output_bias: bias,
                sight: Sight::Causal(window),
                ..decoder.block.attention
            },
            mlp: llama::with_bias(decoder.block.mlp, config.bool_or("mlp_bias", false)?),
            ..decoder.block
        },
        ..decoder
    })
}

fn rotated_layers(config: &HfConfig, layers: usize) -> Result<Vec<bool>, ModelError> {
    let interval = config.optional_size("no_rope_layer_interval")?.unwrap_or(4);
    let Some(listed) = config.optional_sizes("no_rope_layers")? else {
        return Ok((0..layers).map(|layer| (layer + 1) % interval != 0).collect());
    };
    if listed.len() != layers {
        return Err(config.wrong("no_rope_layers", format!("{layers} entries"), listed.len().to_string()));
    }
    Ok(listed.into_iter().map(|rotated| rotated != 0).collect())
}

/// The names of tensors.
fn rules(decoder: &DecoderConfig) -> Vec<Rule> {
    mistral::rules(decoder)
}
