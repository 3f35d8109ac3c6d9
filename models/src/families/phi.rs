//! Phi-1, 1.5 and 2 (Li et al. 2023, arXiv:2309.05463). `model_type` "phi"; reference: transformers
//! `models/phi/modeling_phi.py`.
//!
//! GPT-J's block (attention and MLP in parallel after one LayerNorm) with LLaMA's names and with biases everywhere, the
//! head included. Rotary positions are on halves of the first part of each head: half of the head where the file does
//! not say.

use firebrand_kernels::RopeStyle;

use super::common::{Heads, Names, Plain, activation, padding_token};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::{DecoderConfig, HeadConfig};
use crate::error::ModelError;
use crate::hf_config::{HfConfig, RopeDefaults};
use crate::parts::{AttentionConfig, BlockConfig, PositionConfig, Residual};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["phi"],
    models: "Phi-1, 1.5, 2",
    targets: &["q_proj", "v_proj", "fc1", "fc2"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(51_200)),
        (&["hidden_size"], Silent::Size(2048)),
        (&["intermediate_size"], Silent::Size(8192)),
        (&["num_hidden_layers"], Silent::Size(24)),
        (&["hidden_act"], Silent::Text("gelu_new")),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "PhiForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let heads = Heads::read(config, "num_attention_heads", "num_key_value_heads", None)?;
    config.only("qk_layernorm", false)?;
    let rope = config.rope(heads.head_dim, &RopeDefaults { theta: 10_000.0, partial_rotary_factor: 0.5 })?;
    let keys = Plain {
        layers: "num_hidden_layers",
        max_positions: "max_position_embeddings",
        eps: "layer_norm_eps",
        intermediate_size: "intermediate_size",
        tied_head: false,
    };
    let attention = AttentionConfig { qkv_bias: true, output_bias: true, ..heads.attention() };
    let position = PositionConfig::Rope { style: RopeStyle::Half, rope };
    let act = activation(config, "hidden_act")?;
    let decoder = keys.decoder(config, config.size("hidden_size")?, attention, position, act)?;
    Ok(DecoderConfig {
        padding_token: padding_token(config)?,
        head: HeadConfig { bias: true, ..decoder.head },
        block: BlockConfig { residual: Residual::ParallelOneNorm, ..decoder.block },
        ..decoder
    })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::new("model", "layers")
        .tensor("embed.tokens", "model.embed_tokens.weight")
        .norm("norm", "model.final_layernorm")
        .head("lm_head")
        .linear("norms.both", "input_layernorm")
        .split_qkv("self_attn")
        .linear("attention.output", "self_attn.dense")
        .linear("mlp.up", "mlp.fc1")
        .linear("mlp.down", "mlp.fc2")
        .ignored("model.layers.{}.self_attn.rotary_emb.inv_freq")
        .rules()
}
