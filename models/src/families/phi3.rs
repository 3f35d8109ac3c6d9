//! Phi-3 and 3.5, mini and medium (2024, arXiv:2404.14219). `model_type` "phi3"; reference: transformers
//! `models/phi3/modeling_phi3.py`.
//!
//! LLaMA with q, k and v in one matrix, one after the other, and gate and up in another. The long-context models divide
//! each rotary frequency by a number of its own (`longrope`, in the first files `su`). Only a part of the head may be
//! rotated.

use super::common::{Gated, Names, activation};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, FusedLayout, MlpConfig, QkvLayout, Sight, Window};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["phi3"],
    models: "Phi-3, Phi-3.5 (mini, medium); Phi-4",
    // The matrix that PEFT's guides adapt; PEFT has no default targets for `phi3`.
    targets: &["qkv_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(32_064)),
        (&["hidden_size"], Silent::Size(3072)),
        (&["intermediate_size"], Silent::Size(8192)),
        (&["num_hidden_layers"], Silent::Size(32)),
        (&["max_position_embeddings"], Silent::Size(4096)),
        (&["rms_norm_eps"], Silent::Number(1e-5)),
        (&["hidden_act"], Silent::Text("silu")),
        (&["pad_token_id"], Silent::Size(32_000)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "Phi3ForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let mut config = config.clone();
    if !config.says("original_max_position_embeddings") {
        // The reference's default, which takes precedence over the value in the rope's own object.
        config.set("original_max_position_embeddings", 4096);
    }
    let config = &config;
    let decoder = Gated::default().decoder(config)?;
    let window = config.optional_size("sliding_window")?.map_or(Window::Full, Window::Sliding);
    let intermediate_size = decoder.block.mlp.intermediate_size();
    Ok(DecoderConfig {
        block: BlockConfig {
            attention: AttentionConfig {
                layout: QkvLayout::Fused(FusedLayout::Consecutive),
                sight: Sight::Causal(window),
                ..decoder.block.attention
            },
            mlp: MlpConfig::GatedFused {
                intermediate_size,
                activation: activation(config, "hidden_act")?,
                bias: false,
            },
            ..decoder.block
        },
        ..decoder
    })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::llama()
        .linear("attention.qkv.fused", "self_attn.qkv_proj")
        .linear("mlp.gate_up", "mlp.gate_up_proj")
        .linear("mlp.down", "mlp.down_proj")
        .linear("norms.attention", "input_layernorm")
        .linear("norms.mlp", "post_attention_layernorm")
        .rules()
}
