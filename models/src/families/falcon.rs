//! Falcon 7B, 40B, 180B and RW (Almazrouei et al. 2023, arXiv:2311.16867). `model_type` "falcon", in the first files
//! "RefinedWebModel" and "RefinedWeb"; reference: transformers `models/falcon/modeling_falcon.py`.
//!
//! Three shapes. 7B: attention and MLP in parallel after one norm, one key-value head. 40B and 180B
//! (`new_decoder_architecture`): the same with groups of key-value heads, and one norm for each branch or one for both.
//! RW (`alibi`): sequential branches, as many key-value heads as query heads, biases, ALiBi. q, k and v are one matrix,
//! group by group. The reference computes ALiBi in bf16 and adds it before the division by the root of the head's width
//! (in `sdpa`; its `eager` path adds it twice).

use firebrand_kernels::{Activation, Alibi, RopeStyle};

use super::alibi::slopes;
use super::common::{Heads, Names, Plain, activation};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::{HfConfig, RopeDefaults};
use crate::parts::{AttentionConfig, BlockConfig, FusedLayout, MlpConfig, PositionConfig, QkvLayout, Residual};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["falcon", "RefinedWeb", "RefinedWebModel"],
    models: "Falcon 7B, 40B, 180B, RW",
    targets: &["query_key_value"],
    prompt: BasePrompt::Falcon,
    silent: &[
        (&["vocab_size"], Silent::Size(65_024)),
        (&["hidden_size", "n_embed"], Silent::Size(4544)),
        (&["num_hidden_layers", "n_layer"], Silent::Size(32)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "FalconForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let hidden_size = config.size(config.spelling(&["hidden_size", "n_embed"])?)?;
    let heads = heads(config, hidden_size)?;
    let bias = config.bool_or("bias", false)?;
    let keys = Plain {
        layers: config.spelling(&["num_hidden_layers", "n_layer"])?,
        max_positions: "max_position_embeddings",
        eps: "layer_norm_epsilon",
        intermediate_size: "ffn_hidden_size",
        tied_head: true,
    };
    let attention = AttentionConfig {
        layout: QkvLayout::Fused(FusedLayout::Grouped),
        qkv_bias: bias,
        output_bias: bias,
        ..heads.attention()
    };
    let position = match config.bool_or("alibi", false)? {
        true => PositionConfig::Alibi(Alibi::Bf16 { slopes: slopes(heads.heads) }),
        false => {
            let rope = config.rope(heads.head_dim, &RopeDefaults::default())?;
            PositionConfig::Rope { style: RopeStyle::Half, rope }
        }
    };
    let act = match config.optional_string("activation")? {
        Some(_) => activation(config, "activation")?,
        None => Activation::GeluExact,
    };
    let decoder = keys.decoder(config, hidden_size, attention, position, act)?;
    let mlp = MlpConfig::Plain { intermediate_size: decoder.block.mlp.intermediate_size(), activation: act, bias };
    Ok(DecoderConfig { block: BlockConfig { residual: residual(config)?, mlp, ..decoder.block }, ..decoder })
}

fn heads(config: &HfConfig, hidden_size: usize) -> Result<Heads, ModelError> {
    let heads = Heads::of_width(config, config.spelling(&["num_attention_heads", "n_head"])?, hidden_size)?;
    let kv_heads = if grouped(config)? {
        let key = config.spelling(&["num_kv_heads", "n_head_kv"])?;
        let kv_heads = config.optional_size(key)?.unwrap_or(heads.heads);
        if !heads.heads.is_multiple_of(kv_heads) {
            return Err(config.wrong(key, format!("a divisor of {} heads", heads.heads), kv_heads.to_string()));
        }
        kv_heads
    } else if config.bool_or("multi_query", true)? {
        1
    } else {
        heads.heads
    };
    Ok(Heads { kv_heads, ..heads })
}

/// Whether this is the architecture of 40B; its first files say so only by their `model_type`.
fn grouped(config: &HfConfig) -> Result<bool, ModelError> {
    config.bool_or("new_decoder_architecture", config.optional_string("model_type")? == Some("RefinedWeb"))
}

fn residual(config: &HfConfig) -> Result<Residual, ModelError> {
    let (grouped, parallel) = (grouped(config)?, config.bool_or("parallel_attn", true)?);
    let norms = config.optional_size("num_ln_in_parallel_attn")?;
    match (parallel, grouped, norms) {
        (false, true, _) => Err(config.wrong("parallel_attn", "true with `new_decoder_architecture`", "false")),
        (false, false, _) => Ok(Residual::Sequential),
        (true, true, None | Some(2)) => Ok(Residual::ParallelTwoNorms),
        (true, _, None | Some(1)) => Ok(Residual::ParallelOneNorm),
        (true, _, Some(norms)) => {
            let expected = if grouped { "1 or 2" } else { "1 without `new_decoder_architecture`" };
            Err(config.wrong("num_ln_in_parallel_attn", expected, norms.to_string()))
        }
    }
}

/// The names of tensors; those of norms depend on where they stand.
fn rules(decoder: &DecoderConfig) -> Vec<Rule> {
    let names = Names::new("transformer", "h");
    let names = match decoder.block.residual {
        Residual::ParallelOneNorm => names.linear("norms.both", "input_layernorm"),
        Residual::ParallelTwoNorms => names.linear("norms.attention", "ln_attn").linear("norms.mlp", "ln_mlp"),
        Residual::Sequential | Residual::After | Residual::AfterBranch | Residual::Around | Residual::Scaled { .. } => {
            names.linear("norms.attention", "input_layernorm").linear("norms.mlp", "post_attention_layernorm")
        }
    };
    names
        .tensor("embed.tokens", "transformer.word_embeddings.weight")
        .norm("norm", "transformer.ln_f")
        .head("lm_head")
        .linear("attention.qkv.fused", "self_attention.query_key_value")
        .linear("attention.output", "self_attention.dense")
        .linear("mlp.up", "mlp.dense_h_to_4h")
        .linear("mlp.down", "mlp.dense_4h_to_h")
        .rules()
}
