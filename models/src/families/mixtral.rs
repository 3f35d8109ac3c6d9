//! Mixtral (Jiang et al. 2024, arXiv:2401.04088). `model_type` "mixtral"; reference: transformers
//! `models/mixtral/modeling_mixtral.py`.
//!
//! Mistral with several gated MLPs in each block; a router chooses `num_experts_per_tok` of them for each token. `w1`
//! is the gate, `w3` up, `w2` down. The reference keeps the experts' matrices stacked in memory and writes them one by
//! one, as all published files hold them. `router_jitter_noise` would multiply inputs by noise in training and is
//! refused; the load-balancing loss belongs to the objective (`train.router_aux_loss`), whatever `output_router_logits`
//! says.

use super::common::{Gated, Names, activation};
use super::defaults::Silent;
use super::llama;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, MlpConfig, Sight, Window};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["mixtral"],
    models: "Mixtral 8x7B, 8x22B",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Mistral,
    silent: &[
        (&["vocab_size"], Silent::Size(32_000)),
        (&["hidden_size"], Silent::Size(4096)),
        (&["intermediate_size"], Silent::Size(14_336)),
        (&["num_hidden_layers"], Silent::Size(32)),
        (&["num_attention_heads"], Silent::Heads(32)),
        (&["num_key_value_heads"], Silent::Size(8)),
        (&["max_position_embeddings"], Silent::Size(131_072)),
        (&["rms_norm_eps"], Silent::Number(1e-5)),
        (&["hidden_act"], Silent::Text("silu")),
        (&["num_local_experts", "num_experts"], Silent::Size(8)),
        (&["num_experts_per_tok"], Silent::Size(2)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "MixtralForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let decoder = Gated { theta: 1e6, ..Gated::default() }.decoder(config)?;
    llama::whole_head(config, &decoder)?;
    config.only("router_jitter_noise", 0.0)?;
    let window = config.optional_size("sliding_window")?.map_or(Window::Full, Window::Sliding);
    let experts_key = config.spelling(&["num_local_experts", "num_experts"])?;
    let experts = config.size_in(experts_key, 1..=4096)?;
    let mlp = MlpConfig::Experts {
        intermediate_size: decoder.block.mlp.intermediate_size(),
        activation: activation(config, "hidden_act")?,
        experts,
        chosen: config.size_in("num_experts_per_tok", 1..=experts)?,
    };
    Ok(DecoderConfig {
        block: BlockConfig {
            attention: AttentionConfig { sight: Sight::Causal(window), ..decoder.block.attention },
            mlp,
            ..decoder.block
        },
        ..decoder
    })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    let expert = |names: Names, (ours, theirs): (&str, &str)| {
        names.tensor(
            &format!("layers.{{}}.mlp.experts.{{}}.{ours}.weight"),
            &format!("model.layers.{{}}.block_sparse_moe.experts.{{}}.{theirs}.weight"),
        )
    };
    [("gate", "w1"), ("up", "w3"), ("down", "w2")]
        .into_iter()
        .fold(Names::llama(), expert)
        .split_qkv("self_attn")
        .linear("mlp.router", "block_sparse_moe.gate")
        .linear("norms.attention", "input_layernorm")
        .linear("norms.mlp", "post_attention_layernorm")
        .rules()
}
