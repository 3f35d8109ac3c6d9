//! GPT-NeoX (Black et al. 2022, arXiv:2204.06745), Pythia (Biderman et al. 2023, arXiv:2304.01373) and
//! RedPajama-INCITE. `model_type` "gpt_neox"; reference: transformers `models/gpt_neox/modeling_gpt_neox.py`.
//!
//! Attention and MLP in parallel, each with a norm of its own; in RedPajama they are sequential. q, k and v are one
//! matrix, head by head. A quarter of each head is rotated unless `rotary_pct` (or `partial_rotary_factor`) says
//! otherwise. The head is called `embed_out`. Old files hold causal masks.

use firebrand_kernels::RopeStyle;

use super::common::{Heads, Names, Plain, activation};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::{HfConfig, RopeDefaults};
use crate::parts::{AttentionConfig, BlockConfig, FusedLayout, PositionConfig, QkvLayout, Residual};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["gpt_neox"],
    models: "GPT-NeoX-20B; Pythia; RedPajama-INCITE",
    targets: &["query_key_value"],
    prompt: BasePrompt::RedPajama,
    silent: &[
        (&["vocab_size"], Silent::Size(50_432)),
        (&["hidden_size"], Silent::Size(6144)),
        (&["intermediate_size"], Silent::Size(24_576)),
        (&["num_hidden_layers"], Silent::Size(44)),
        (&["hidden_act"], Silent::Text("gelu")),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "GPTNeoXForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let hidden_size = config.size("hidden_size")?;
    let heads = Heads::of_width(config, "num_attention_heads", hidden_size)?;
    let defaults = RopeDefaults {
        theta: config.optional_positive_f64("rotary_emb_base")?.unwrap_or(10_000.0),
        partial_rotary_factor: config.optional_positive_f64("rotary_pct")?.unwrap_or(0.25),
    };
    config.only("head_dim", heads.head_dim)?;
    let rope = config.rope(heads.head_dim, &defaults)?;
    // The reference reads these two keys only inside `rope_parameters`.
    for key in ["rope_theta", "partial_rotary_factor"] {
        if config.without(key).rope(heads.head_dim, &defaults)? != rope {
            let found = "another value than that of the family's own key";
            return Err(config.wrong(key, "`rotary_emb_base` and `rotary_pct` in its place", found));
        }
    }
    let bias = config.bool_or("attention_bias", true)?;
    let attention = AttentionConfig {
        layout: QkvLayout::Fused(FusedLayout::Grouped),
        qkv_bias: bias,
        output_bias: bias,
        ..heads.attention()
    };
    let keys = Plain {
        layers: "num_hidden_layers",
        max_positions: "max_position_embeddings",
        eps: "layer_norm_eps",
        intermediate_size: "intermediate_size",
        tied_head: false,
    };
    let position = PositionConfig::Rope { style: RopeStyle::Half, rope };
    let decoder = keys.decoder(config, hidden_size, attention, position, activation(config, "hidden_act")?)?;
    let parallel = config.bool_or("use_parallel_residual", true)?;
    Ok(DecoderConfig {
        block: BlockConfig {
            residual: if parallel { Residual::ParallelTwoNorms } else { Residual::Sequential },
            ..decoder.block
        },
        ..decoder
    })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::new("gpt_neox", "layers")
        .tensor("embed.tokens", "gpt_neox.embed_in.weight")
        .norm("norm", "gpt_neox.final_layer_norm")
        .rule(Rule::renamed("head.weight", "embed_out.weight").or("lm_head.weight"))
        .linear("norms.attention", "input_layernorm")
        .linear("norms.mlp", "post_attention_layernorm")
        .linear("attention.qkv.fused", "attention.query_key_value")
        .linear("attention.output", "attention.dense")
        .linear("mlp.up", "mlp.dense_h_to_4h")
        .linear("mlp.down", "mlp.dense_4h_to_h")
        .ignored("gpt_neox.layers.{}.attention.bias")
        .ignored("gpt_neox.layers.{}.attention.masked_bias")
        .ignored("gpt_neox.layers.{}.attention.rotary_emb.inv_freq")
        .rules()
}
