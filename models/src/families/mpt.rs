//! MPT (MosaicML 2023). `model_type` "mpt"; reference: transformers `models/mpt/modeling_mpt.py`.
//!
//! ALiBi with slopes in an order of its own, no biases anywhere, not even in LayerNorm, and q, k and v in one matrix,
//! one after the other. Models for long text clip q, k and v (`clip_qkv`). The reference ignores several keys of the
//! original code; values of them that would change the result there are refused here.

use firebrand_kernels::{Activation, Alibi};

use super::alibi::slopes_of_mpt;
use super::common::{Heads, Names, Plain};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{
    Affine, AttentionConfig, BlockConfig, FusedLayout, MlpConfig, NormConfig, PositionConfig, QkvLayout, Scale,
};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["mpt"],
    models: "MPT 7B, 30B",
    targets: &["Wqkv"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(50_368)),
        (&["d_model", "hidden_size"], Silent::Size(2048)),
        (&["n_layers", "num_hidden_layers"], Silent::Size(24)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "MptForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let hidden_size = config.size(config.spelling(&["d_model", "hidden_size"])?)?;
    let heads = Heads::of_width(config, config.spelling(&["n_heads", "num_attention_heads"])?, hidden_size)?;
    config.only("expansion_ratio", 4)?;
    config.only("no_bias", true)?;
    config.only("embedding_fraction", 1)?;
    if let Some(scale) = config.map().get("logit_scale").filter(|scale| !scale.is_null()) {
        return Err(config.wrong("logit_scale", "null; nothing else is supported", scale.to_string()));
    }
    let mut attention = AttentionConfig { layout: QkvLayout::Fused(FusedLayout::Consecutive), ..heads.attention() };
    if let Some(keys) = config.section("attn_config")? {
        keys.only("attn_type", "multihead_attention")?;
        keys.only("alibi", true)?;
        keys.only("alibi_bias_max", 8)?;
        keys.only("prefix_lm", false)?;
        keys.only("qk_ln", false)?;
        attention.clip = keys.optional_positive_f64("clip_qkv")?;
        attention.scale = keys.optional_positive_f64("softmax_scale")?.map_or(attention.scale, Scale::Fixed);
    }
    let keys = Plain {
        layers: config.spelling(&["n_layers", "num_hidden_layers"])?,
        max_positions: config.spelling(&["max_seq_len", "max_position_embeddings"])?,
        eps: "layer_norm_epsilon",
        intermediate_size: "intermediate_size",
        tied_head: true,
    };
    let position = PositionConfig::Alibi(Alibi::Exact { slopes: slopes_of_mpt(heads.heads) });
    let activation = Activation::GeluExact;
    let decoder = keys.decoder(config, hidden_size, attention, position, activation)?;
    let eps = config.optional_positive_f64("layer_norm_epsilon")?.unwrap_or(1e-5);
    Ok(DecoderConfig {
        block: BlockConfig {
            norm: NormConfig::Layer { eps, affine: Affine::Weight },
            mlp: MlpConfig::Plain { intermediate_size: 4 * hidden_size, activation, bias: false },
            ..decoder.block
        },
        ..decoder
    })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::new("transformer", "blocks")
        .tensor("embed.tokens", "transformer.wte.weight")
        .norm("norm", "transformer.norm_f")
        .head("lm_head")
        .linear("norms.attention", "norm_1")
        .linear("norms.mlp", "norm_2")
        .linear("attention.qkv.fused", "attn.Wqkv")
        .linear("attention.output", "attn.out_proj")
        .linear("mlp.up", "ffn.up_proj")
        .linear("mlp.down", "ffn.down_proj")
        .rules()
}
