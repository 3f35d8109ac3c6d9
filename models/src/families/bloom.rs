//! BLOOM (Scao et al. 2022, arXiv:2211.05100). `model_type` "bloom"; reference: transformers
//! `models/bloom/modeling_bloom.py`.
//!
//! ALiBi instead of position embeddings, a norm directly after the embedding, and q, k and v in one matrix, head by
//! head. Published files lack the prefix `transformer.`, and older configs say `n_embed`. `slow_but_exact` and
//! `pretraining_tp` do not change results.

use firebrand_kernels::{Activation, Alibi};

use super::alibi::slopes;
use super::common::{Heads, Names, Plain};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, EmbeddingConfig, FusedLayout, PositionConfig, QkvLayout};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["bloom"],
    models: "BLOOM, BLOOMZ",
    targets: &["query_key_value"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(250_880)),
        (&["hidden_size", "n_embed"], Silent::Size(64)),
        (&["n_layer", "num_hidden_layers"], Silent::Size(2)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "BloomForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let hidden_size = config.size(config.spelling(&["hidden_size", "n_embed"])?)?;
    let heads = Heads::of_width(config, config.spelling(&["n_head", "num_attention_heads"])?, hidden_size)?;
    config.only("apply_residual_connection_post_layernorm", false)?;
    let keys = Plain {
        layers: config.spelling(&["n_layer", "num_hidden_layers"])?,
        max_positions: "seq_length",
        eps: "layer_norm_epsilon",
        intermediate_size: "n_inner",
        tied_head: true,
    };
    let attention = AttentionConfig {
        layout: QkvLayout::Fused(FusedLayout::Grouped),
        qkv_bias: true,
        output_bias: true,
        ..heads.attention()
    };
    let position = PositionConfig::Alibi(Alibi::Exact { slopes: slopes(heads.heads) });
    let decoder = keys.decoder(config, hidden_size, attention, position, Activation::GeluTanh)?;
    Ok(DecoderConfig { embedding: EmbeddingConfig::Normalised, ..decoder })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::new("transformer", "h")
        .tensor("embed.tokens", "transformer.word_embeddings.weight")
        .norm("embed.norm", "transformer.word_embeddings_layernorm")
        .norm("norm", "transformer.ln_f")
        .head("lm_head")
        .linear("norms.attention", "input_layernorm")
        .linear("norms.mlp", "post_attention_layernorm")
        .linear("attention.qkv.fused", "self_attention.query_key_value")
        .linear("attention.output", "self_attention.dense")
        .linear("mlp.up", "mlp.dense_h_to_4h")
        .linear("mlp.down", "mlp.dense_4h_to_h")
        .rules()
}
