//! OLMo 2 (2024, arXiv:2501.00656). `model_type` "olmo2"; reference: transformers `models/olmo2/modeling_olmo2.py`.
//!
//! LLaMA with its norms after the branches instead of before them, and norms over the whole projections to q and k.

use super::common::{Gated, Names};
use super::llama;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::transformer::{AttentionConfig, DecoderConfig, QkNorm, Residual};
use crate::weights::Rule;

/// As in LLaMA; PEFT has no choice of its own for `olmo2`.
pub const DEFAULT_TARGETS: &[&str] = &["q_proj", "v_proj"];

/// Reads `config.json`.
pub fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = Gated::default().decoder(config)?;
    llama::whole_head(config, &decoder)?;
    let bias = config.bool_or("attention_bias", false)?;
    Ok(DecoderConfig {
        attention: AttentionConfig {
            qkv_bias: bias,
            output_bias: bias,
            qk_norm: Some(QkNorm::WholeProjection),
            ..decoder.attention
        },
        residual: Residual::AfterBranch,
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
        .linear("norms.attention", "post_attention_layernorm")
        .linear("norms.mlp", "post_feedforward_layernorm")
        .rules()
}
