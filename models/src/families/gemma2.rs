//! Gemma 2 (2024, arXiv:2408.00118). `model_type` "gemma2"; reference: transformers `models/gemma2/modeling_gemma2.py`.
//!
//! Gemma with norms before and after each branch, soft caps on attention scores and on logits, queries scaled by
//! `query_pre_attn_scalar` instead of the head's width, and a sliding window on every other layer, beginning with the
//! first. Caps and window have defaults where their keys are absent, and are off where they are `null`.

use super::common::{Names, windows};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use super::{gemma, llama};
use crate::decoder::{DecoderConfig, HeadConfig};
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, Residual, Scale, Sight};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["gemma2"],
    models: "Gemma 2 2B, 9B, 27B",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(256_000)),
        (&["hidden_size"], Silent::Size(2304)),
        (&["intermediate_size"], Silent::Size(9216)),
        (&["num_hidden_layers"], Silent::Size(26)),
        (&["num_attention_heads"], Silent::Size(8)),
        (&["num_key_value_heads"], Silent::Size(4)),
        (&["max_position_embeddings"], Silent::Size(8192)),
        (&["rms_norm_eps"], Silent::Number(1e-6)),
        (&["hidden_activation"], Silent::Text("gelu_pytorch_tanh")),
        (&["pad_token_id"], Silent::Size(0)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "Gemma2ForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = gemma::adapted(config, gemma::GATED.decoder(config)?)?;
    llama::whole_head(config, &decoder)?;
    let silent = (!config.says("sliding_window")).then_some(4096);
    let window = config.optional_size("sliding_window")?.or(silent);
    let softcap = |key: &str, silent: f64| {
        Ok::<_, ModelError>(config.optional_positive_f64(key)?.or((!config.says(key)).then_some(silent)))
    };
    Ok(DecoderConfig {
        head: HeadConfig { softcap: softcap("final_logit_softcapping", 30.0)?, ..decoder.head },
        block: BlockConfig {
            attention: AttentionConfig {
                scale: query_scale(config)?,
                softcap: softcap("attn_logit_softcapping", 50.0)?,
                sight: Sight::Causal(windows(config, decoder.layers, window, |layer| layer % 2 == 0)?),
                ..decoder.block.attention
            },
            residual: Residual::Around,
            ..decoder.block
        },
        ..decoder
    })
}

/// Scores are divided by the root of `query_pre_attn_scalar`.
pub(super) fn query_scale(config: &HfConfig) -> Result<Scale, ModelError> {
    Ok(Scale::Fixed(config.optional_positive_f64("query_pre_attn_scalar")?.unwrap_or(256.0).powf(-0.5)))
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    names().rules()
}

/// The rules that Gemma 2 and 3 share.
pub(super) fn names() -> Names {
    Names::llama()
        .split_qkv("self_attn")
        .gated_mlp()
        .linear("norms.attention", "input_layernorm")
        .linear("norms.attention_after", "post_attention_layernorm")
        .linear("norms.mlp", "pre_feedforward_layernorm")
        .linear("norms.mlp_after", "post_feedforward_layernorm")
}
