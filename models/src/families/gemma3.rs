//! Gemma 3, text models (2025, arXiv:2503.19786). `model_type` "gemma3_text"; reference: transformers
//! `models/gemma3/modeling_gemma3.py`.
//!
//! Gemma 2 without soft caps and with norms on the heads of q and k. Five of six layers have a sliding window and
//! rotary wavelengths of their own: published files say `rope_local_base_freq`, newer ones have an object for each kind
//! of layer in `rope_parameters`. `rope_scaling` applies to the layers without a window.

use super::common::windows;
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use super::{gemma, gemma2};
use crate::decoder::{DecoderConfig, HeadConfig};
use crate::error::ModelError;
use crate::hf_config::{HfConfig, Rope, RopeDefaults};
use crate::parts::{AttentionConfig, BlockConfig, PositionConfig, QkNorm, Residual, Sight};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["gemma3_text"],
    models: "Gemma 3 270M, 1B (text models)",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(262_208)),
        (&["hidden_size"], Silent::Size(2304)),
        (&["intermediate_size"], Silent::Size(9216)),
        (&["num_hidden_layers"], Silent::Size(26)),
        (&["num_attention_heads"], Silent::Size(8)),
        (&["num_key_value_heads"], Silent::Size(4)),
        (&["max_position_embeddings"], Silent::Size(131_072)),
        (&["rms_norm_eps"], Silent::Number(1e-6)),
        (&["hidden_activation"], Silent::Text("gelu_pytorch_tanh")),
        (&["pad_token_id"], Silent::Size(0)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "Gemma3TextForSequenceClassification" },
};

/// Index of the rotary table of layers without a window.
const FULL: usize = 0;
/// Index of the rotary table of layers with a window.
const SLIDING: usize = 1;

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    // The reference stores the key and does not use it.
    if let Some(cap) = config.optional_positive_f64("attn_logit_softcapping")? {
        return Err(config.wrong("attn_logit_softcapping", "null; nothing else is supported", cap.to_string()));
    }
    config.only("partial_rotary_factor", 1.0)?;
    if let Some(scaling) = config.section("rope_scaling")?.filter(|scaling| !scaling.says("rope_type")) {
        // The reference ignores the kind of scaling under its old name.
        return Err(scaling.wrong("rope_type", "the kind of scaling under this name", "nothing"));
    }
    let ropes = |head_dim| Ok(PositionConfig::RopeByLayer { ropes: ropes(config, head_dim)?, layers: vec![] });
    let decoder = gemma::adapted(config, gemma::GATED.decoder_with(config, ropes)?)?;
    let silent = (!config.says("sliding_window")).then_some(4096);
    let window = config.optional_size("sliding_window")?.or(silent);
    let pattern = config.optional_size("sliding_window_pattern")?.unwrap_or(6);
    let window = windows(config, decoder.layers, window, |layer| (layer + 1) % pattern != 0)?;
    let kind = |layer| Some(if window.at(layer).is_some() { SLIDING } else { FULL });
    let position = match decoder.block.position {
        PositionConfig::RopeByLayer { ropes, .. } => {
            PositionConfig::RopeByLayer { ropes, layers: (0..decoder.layers).map(kind).collect() }
        }
        other => other,
    };
    Ok(DecoderConfig {
        head: HeadConfig { softcap: config.optional_positive_f64("final_logit_softcapping")?, ..decoder.head },
        block: BlockConfig {
            position,
            attention: AttentionConfig {
                qk_norm: Some(QkNorm::EachHead),
                scale: gemma2::query_scale(config)?,
                sight: Sight::Causal(window),
                ..decoder.block.attention
            },
            residual: Residual::Around,
            ..decoder.block
        },
        ..decoder
    })
}

/// The rotary parameters by kind of layer, at `FULL` and `SLIDING`.
fn ropes(config: &HfConfig, head_dim: usize) -> Result<Vec<Rope>, ModelError> {
    let wide = RopeDefaults { theta: 1e6, partial_rotary_factor: 1.0 };
    let local = config.optional_positive_f64("rope_local_base_freq")?.unwrap_or(10_000.0);
    let near = RopeDefaults { theta: local, partial_rotary_factor: 1.0 };
    let full = config.rope_of_layers("full_attention", head_dim, &wide)?;
    let sliding = config.rope_of_layers("sliding_attention", head_dim, &near)?;
    Ok(match (full, sliding) {
        (None, None) => vec![config.rope(head_dim, &wide)?, Rope::plain(local, head_dim, head_dim)],
        (full, sliding) => vec![
            full.unwrap_or_else(|| Rope::plain(wide.theta, head_dim, head_dim)),
            sliding.unwrap_or_else(|| Rope::plain(local, head_dim, head_dim)),
        ],
    })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    gemma2::names()
        .linear("attention.qk_norm.q", "self_attn.q_norm")
        .linear("attention.qk_norm.k", "self_attn.k_norm")
        .rules()
}
