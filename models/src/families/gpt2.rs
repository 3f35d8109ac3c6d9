//! GPT-2 (Radford et al. 2019). `model_type` "gpt2"; reference: transformers `models/gpt2/modeling_gpt2.py`.
//!
//! Learned positions, LayerNorm before each branch, biases everywhere, a tied head. Its linear maps are stored as `[in,
//! out]` (`Conv1D`); in memory they are `[out, in]` like all others. q, k and v are one matrix, one after the other.

use super::common::{Heads, Names, Plain, activation};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, FusedLayout, PositionConfig, QkvLayout, Scale};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["gpt2"],
    models: "GPT-2",
    targets: &["c_attn"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(50_257)),
        (&["n_embd", "hidden_size"], Silent::Size(768)),
        (&["n_layer", "num_hidden_layers"], Silent::Size(12)),
        (&["n_positions", "max_position_embeddings"], Silent::Size(1024)),
        (&["activation_function"], Silent::Text("gelu_new")),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "GPT2ForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let hidden_size = config.size(config.spelling(&["n_embd", "hidden_size"])?)?;
    let heads = Heads::of_width(config, config.spelling(&["n_head", "num_attention_heads"])?, hidden_size)?;
    config.only("add_cross_attention", false)?;
    let keys = Plain {
        layers: config.spelling(&["n_layer", "num_hidden_layers"])?,
        max_positions: config.spelling(&["n_positions", "max_position_embeddings"])?,
        eps: "layer_norm_epsilon",
        intermediate_size: "n_inner",
        tied_head: true,
    };
    let scaled = config.bool_or("scale_attn_weights", true)?;
    let scale = if scaled { (heads.head_dim as f64).powf(-0.5) } else { 1.0 };
    let by_layer = config.bool_or("scale_attn_by_inverse_layer_idx", false)?;
    let attention = AttentionConfig {
        layout: QkvLayout::Fused(FusedLayout::Consecutive),
        qkv_bias: true,
        output_bias: true,
        scale: if by_layer { Scale::InverseLayer(scale) } else { Scale::Fixed(scale) },
        ..heads.attention()
    };
    let act = activation(config, "activation_function")?;
    keys.decoder(config, hidden_size, attention, PositionConfig::Learned { offset: 0 }, act)
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::new("transformer", "h")
        .tensor("embed.tokens", "transformer.wte.weight")
        .tensor("embed.positions", "transformer.wpe.weight")
        .norm("norm", "transformer.ln_f")
        .head("lm_head")
        .linear("norms.attention", "ln_1")
        .linear("norms.mlp", "ln_2")
        .transposed("attention.qkv.fused", "attn.c_attn")
        .transposed("attention.output", "attn.c_proj")
        .transposed("mlp.up", "mlp.c_fc")
        .transposed("mlp.down", "mlp.c_proj")
        .ignored("transformer.h.{}.attn.bias")
        .ignored("transformer.h.{}.attn.masked_bias")
        .rules()
}
