//! Qwen 3, dense models (2025, arXiv:2505.09388). `model_type` "qwen3"; reference: transformers
//! `models/qwen3/modeling_qwen3.py`.
//!
//! Qwen 2 with norms on the heads of q and k instead of biases, and heads 128 wide whatever `hidden_size` is.

use super::common::{Gated, Names};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use super::{llama, qwen2};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, QkNorm, Sight};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["qwen3"],
    models: "Qwen 3 (dense)",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(151_936)),
        (&["hidden_size"], Silent::Size(4096)),
        (&["intermediate_size"], Silent::Size(22_016)),
        (&["num_hidden_layers"], Silent::Size(32)),
        (&["num_attention_heads"], Silent::Size(32)),
        (&["num_key_value_heads"], Silent::Size(32)),
        (&["max_position_embeddings"], Silent::Size(32_768)),
        (&["rms_norm_eps"], Silent::Number(1e-6)),
        (&["hidden_act"], Silent::Text("silu")),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "Qwen3ForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = Gated { head_dim: Some(128), ..Gated::default() }.decoder(config)?;
    llama::whole_head(config, &decoder)?;
    let bias = config.bool_or("attention_bias", false)?;
    Ok(DecoderConfig {
        block: BlockConfig {
            attention: AttentionConfig {
                qkv_bias: bias,
                output_bias: bias,
                qk_norm: Some(QkNorm::EachHead),
                sight: Sight::Causal(qwen2::late_windows(config, decoder.layers)?),
                ..decoder.block.attention
            },
            ..decoder.block
        },
        ..decoder
    })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::llama()
        .split_qkv("self_attn")
        .gated_mlp()
        .linear("attention.qk_norm.q", "self_attn.q_norm")
        .linear("attention.qk_norm.k", "self_attn.k_norm")
        .linear("norms.attention", "input_layernorm")
        .linear("norms.mlp", "post_attention_layernorm")
        .rules()
}
