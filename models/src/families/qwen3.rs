//! Qwen 3, dense models (2025, arXiv:2505.09388). `model_type` "qwen3"; reference: transformers
//! `models/qwen3/modeling_qwen3.py`.
//!
//! Qwen 2 with norms on the heads of q and k in place of the biases, and heads 128 wide whatever `hidden_size` is.

use super::common::{Gated, Names};
use super::{llama, qwen2};
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::transformer::{AttentionConfig, DecoderConfig, QkNorm};
use crate::weights::Rule;

/// PEFT's choice for `qwen3`.
pub const DEFAULT_TARGETS: &[&str] = &["q_proj", "v_proj"];

/// Reads `config.json`.
pub fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = Gated { head_dim: Some(128), ..Gated::default() }.decoder(config)?;
    llama::whole_head(config, &decoder)?;
    let bias = config.bool_or("attention_bias", false)?;
    Ok(DecoderConfig {
        attention: AttentionConfig {
            qkv_bias: bias,
            output_bias: bias,
            qk_norm: Some(QkNorm::EachHead),
            window: qwen2::late_windows(config, decoder.layers)?,
            ..decoder.attention
        },
        ..decoder
    })
}

/// Our names and theirs.
pub fn rules() -> Vec<Rule> {
    Names::llama()
        .split_qkv("self_attn")
        .gated_mlp()
        .linear("attention.qk_norm.q", "self_attn.q_norm")
        .linear("attention.qk_norm.k", "self_attn.k_norm")
        .linear("norms.attention", "input_layernorm")
        .linear("norms.mlp", "post_attention_layernorm")
        .rules()
}
