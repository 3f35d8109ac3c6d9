//! OLMo 2 (2024, arXiv:2501.00656). `model_type` "olmo2"; reference: transformers `models/olmo2/modeling_olmo2.py`.
//!
//! LLaMA with norms after the branches instead of before them, and norms over the whole q and k projections.

use super::common::{Gated, Names};
use super::defaults::Silent;
use super::llama;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, QkNorm, Residual};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["olmo2"],
    models: "OLMo 2",
    // As in LLaMA; PEFT has no default targets for `olmo2`.
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Olmo2,
    silent: &[
        (&["vocab_size"], Silent::Size(50_304)),
        (&["hidden_size"], Silent::Size(4096)),
        (&["intermediate_size"], Silent::Size(11_008)),
        (&["num_hidden_layers"], Silent::Size(32)),
        (&["max_position_embeddings"], Silent::Size(2048)),
        (&["rms_norm_eps"], Silent::Number(1e-5)),
        (&["hidden_act"], Silent::Text("silu")),
        (&["pad_token_id"], Silent::Size(1)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "Olmo2ForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = Gated::default().decoder(config)?;
    llama::whole_head(config, &decoder)?;
    let bias = config.bool_or("attention_bias", false)?;
    Ok(DecoderConfig {
        block: BlockConfig {
            attention: AttentionConfig {
                qkv_bias: bias,
                output_bias: bias,
                qk_norm: Some(QkNorm::WholeProjection),
                ..decoder.block.attention
            },
            residual: Residual::AfterBranch,
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
        .linear("norms.attention", "post_attention_layernorm")
        .linear("norms.mlp", "post_feedforward_layernorm")
        .rules()
}
