//! LLaMA (Touvron et al. 2023, arXiv:2302.13971; Llama 3: arXiv:2407.21783) and the models that share its architecture.
//! `model_type` "llama"; reference: transformers `models/llama/modeling_llama.py`.
//!
//! RMSNorm before each branch, rotary positions on halves of the head, grouped-query attention, SwiGLU. Oddities:
//! `head_dim` need not be `hidden_size / num_attention_heads`; `mlp_bias` and `attention_bias` are rare but occur, and
//! `attention_bias` includes the output projection; old files hold `rotary_emb.inv_freq`; Yi's first files call the
//! norms `ln1` and `ln2`. `pretraining_tp` splits matrices in the reference without changing results and is ignored.

use super::common::{Gated, Names};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, MlpConfig, PositionConfig};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["llama"],
    models: "LLaMA 1, 2, 3, 3.1, 3.2; Yi; SmolLM, SmolLM2",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Vicuna,
    silent: &[
        (&["vocab_size"], Silent::Size(32_000)),
        (&["hidden_size"], Silent::Size(4096)),
        (&["intermediate_size"], Silent::Size(11_008)),
        (&["num_hidden_layers"], Silent::Size(32)),
        (&["num_attention_heads"], Silent::Heads(32)),
        (&["max_position_embeddings"], Silent::Size(2048)),
        (&["rms_norm_eps"], Silent::Number(1e-6)),
        (&["hidden_act"], Silent::Text("silu")),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "LlamaForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = Gated::default().decoder(config)?;
    whole_head(config, &decoder)?;
    let bias = config.bool_or("attention_bias", false)?;
    Ok(DecoderConfig {
        block: BlockConfig {
            attention: AttentionConfig { qkv_bias: bias, output_bias: bias, ..decoder.block.attention },
            mlp: with_bias(decoder.block.mlp, config.bool_or("mlp_bias", false)?),
            ..decoder.block
        },
        ..decoder
    })
}

/// Error: only a part of the head is rotated. Under some scalings the reference rotates the whole head, under others a
/// part.
pub(super) fn whole_head(config: &HfConfig, decoder: &DecoderConfig) -> Result<(), ModelError> {
    match &decoder.block.position {
        PositionConfig::Rope { rope, .. } if rope.partial_rotary_factor != 1.0 => {
            let found = rope.partial_rotary_factor.to_string();
            Err(config.wrong("partial_rotary_factor", "1: this family rotates the whole head", found))
        }
        _ => Ok(()),
    }
}

/// A gated MLP with or without biases.
pub(super) fn with_bias(mlp: MlpConfig, bias: bool) -> MlpConfig {
    match mlp {
        MlpConfig::Gated { intermediate_size, activation, .. } => {
            MlpConfig::Gated { intermediate_size, activation, bias }
        }
        other => other,
    }
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    let norm = |ours: &str, theirs: &str, old: &str| {
        Rule::renamed(&format!("layers.{{}}.norms.{ours}.weight"), &format!("model.layers.{{}}.{theirs}.weight"))
            .or(&format!("layers.{{}}.{theirs}.weight"))
            .or(&format!("model.layers.{{}}.{old}.weight"))
    };
    Names::llama()
        .split_qkv("self_attn")
        .gated_mlp()
        .rule(norm("attention", "input_layernorm", "ln1"))
        .rule(norm("mlp", "post_attention_layernorm", "ln2"))
        .rules()
}
