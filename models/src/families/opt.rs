//! OPT (Zhang et al. 2022, arXiv:2205.01068). `model_type` "opt"; reference: transformers `models/opt/modeling_opt.py`.
//!
//! Learned positions in a table with two rows before that of position 0. The norm before the MLP of each layer is
//! called `final_layer_norm`, and so is the norm after the last layer. Only OPT-350m has its norms after the branches,
//! no last norm, and an embedding narrower than the model, with a matrix in and one out. Gradients of the biases of k
//! are zero by construction: adding the same number to all scores does not change the softmax.

use super::common::{Heads, Names, Plain, activation, padding_token};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{
    Affine, AttentionConfig, BlockConfig, EmbeddingConfig, MlpConfig, NormConfig, PositionConfig, Residual,
};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["opt"],
    models: "OPT 125M to 66B",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(50_272)),
        (&["hidden_size"], Silent::Size(768)),
        (&["ffn_dim"], Silent::Size(3072)),
        (&["num_hidden_layers"], Silent::Size(12)),
        (&["activation_function"], Silent::Text("relu")),
        (&["pad_token_id"], Silent::Size(1)),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "OPTForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let hidden_size = config.size("hidden_size")?;
    let heads = Heads::of_width(config, "num_attention_heads", hidden_size)?;
    config.only("_remove_final_layer_norm", false)?;
    let bias = config.bool_or("enable_bias", true)?;
    let keys = Plain {
        layers: "num_hidden_layers",
        max_positions: "max_position_embeddings",
        eps: "layer_norm_eps",
        intermediate_size: "ffn_dim",
        tied_head: true,
    };
    let attention = AttentionConfig { qkv_bias: bias, output_bias: bias, ..heads.attention() };
    let act = activation(config, "activation_function")?;
    let decoder = keys.decoder(config, hidden_size, attention, PositionConfig::Learned { offset: 2 }, act)?;
    let embedding = match config.optional_size("word_embed_proj_dim")? {
        Some(width) if width != hidden_size => EmbeddingConfig::Projected { width },
        _ => EmbeddingConfig::Plain,
    };
    let affine = match config.bool_or("layer_norm_elementwise_affine", true)? {
        true => Affine::WeightAndBias,
        false => Affine::Fixed,
    };
    let before = config.bool_or("do_layer_norm_before", true)?;
    Ok(DecoderConfig {
        padding_token: padding_token(config)?,
        embedding,
        initializer_range: config.optional_f64("init_std")?.unwrap_or(0.02),
        block: BlockConfig {
            // No key of the config changes the epsilon.
            norm: NormConfig::Layer { eps: 1e-5, affine },
            residual: if before { Residual::Sequential } else { Residual::After },
            mlp: MlpConfig::Plain { intermediate_size: decoder.block.mlp.intermediate_size(), activation: act, bias },
            ..decoder.block
        },
        ..decoder
    })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::new("model", "decoder.layers")
        .tensor("embed.tokens", "model.decoder.embed_tokens.weight")
        .tensor("embed.positions", "model.decoder.embed_positions.weight")
        .tensor("embed.project.weight", "model.decoder.project_in.weight")
        .tensor("project.weight", "model.decoder.project_out.weight")
        .norm("norm", "model.decoder.final_layer_norm")
        .head("lm_head")
        .linear("norms.attention", "self_attn_layer_norm")
        .linear("norms.mlp", "final_layer_norm")
        .split_qkv("self_attn")
        .linear("attention.output", "self_attn.out_proj")
        .linear("mlp.up", "fc1")
        .linear("mlp.down", "fc2")
        .rules()
}
