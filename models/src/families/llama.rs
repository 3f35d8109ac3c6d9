//! LLaMA (Touvron et al. 2023, arXiv:2302.13971; Llama 3: arXiv:2407.21783) and the models that share its architecture.
//! `model_type` "llama"; reference: transformers `models/llama/modeling_llama.py`.
//!
//! Pre-RMSNorm, rotary positions on halves of the head, grouped-query attention, SwiGLU. Oddities: `head_dim` need not be
//! `hidden_size / num_attention_heads`; `mlp_bias` and `attention_bias` are rare but real, and `attention_bias` includes
//! the output projection; old files carry `rotary_emb.inv_freq`; Yi's first files call the norms `ln1` and `ln2`.
//! `pretraining_tp` splits matrices in the reference without changing results and is ignored.

use firebrand_kernels::{Activation, RopeStyle};

use crate::error::ModelError;
use crate::hf_config::{HfConfig, RopeDefaults};
use crate::transformer::{AttentionConfig, DecoderConfig, MlpConfig, NormConfig, PositionConfig, Residual, Window};
use crate::weights::Rule;

/// PEFT's choice for `llama`.
pub const DEFAULT_TARGETS: &[&str] = &["q_proj", "v_proj"];

/// Reads `config.json`.
pub fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let hidden_size = config.size("hidden_size")?;
    let heads = config.size("num_attention_heads")?;
    let kv_heads = config.optional_size("num_key_value_heads")?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        let expected = format!("a divisor of num_attention_heads = {heads}");
        return Err(config.wrong("num_key_value_heads", expected, kv_heads.to_string()));
    }
    let head_dim = match config.optional_size("head_dim")? {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            let expected = format!("a divisor of hidden_size = {hidden_size}, or head_dim");
            return Err(config.wrong("num_attention_heads", expected, heads.to_string()));
        }
    };
    if !head_dim.is_multiple_of(2) {
        return Err(config.wrong("head_dim", "an even number, for rotary pairs", head_dim.to_string()));
    }
    config.one_of("hidden_act", &["silu"])?;
    let rope = config.rope(head_dim, &RopeDefaults { theta: 10_000.0, partial_rotary_factor: 1.0 })?;
    if rope.partial_rotary_factor != 1.0 {
        // The reference rotates the whole head under some scalings and a part of it under others.
        let found = rope.partial_rotary_factor.to_string();
        return Err(config.wrong("partial_rotary_factor", "1: this family rotates the whole head", found));
    }
    let attention_bias = config.bool_or("attention_bias", false)?;
    Ok(DecoderConfig {
        vocab_size: config.size("vocab_size")?,
        hidden_size,
        layers: config.size("num_hidden_layers")?,
        padding_token: config.optional_usize("pad_token_id")?,
        max_positions: config.size("max_position_embeddings")?,
        attention: AttentionConfig {
            heads,
            kv_heads,
            head_dim,
            qkv_bias: attention_bias,
            output_bias: attention_bias,
            scale: (head_dim as f64).powf(-0.5),
            window: Window::Full,
        },
        position: PositionConfig::Rope { style: RopeStyle::Half, rope },
        norm: NormConfig::Rms { eps: config.positive_f64("rms_norm_eps")? },
        residual: Residual::Sequential,
        mlp: MlpConfig::Gated {
            intermediate_size: config.size("intermediate_size")?,
            activation: Activation::Silu,
            bias: config.bool_or("mlp_bias", false)?,
        },
        tied_head: config.bool_or("tie_word_embeddings", false)?,
        initializer_range: config.optional_f64("initializer_range")?.unwrap_or(0.02),
    })
}

/// Our names and theirs.
pub fn rules() -> Vec<Rule> {
    let layer = |ours: &str, theirs: &str| {
        Rule::renamed(&format!("layers.{{}}.{ours}"), &format!("model.layers.{{}}.{theirs}"))
    };
    let linear = |ours: &str, theirs: &str| {
        ["weight", "bias"].map(|part| layer(&format!("{ours}.{part}"), &format!("{theirs}.{part}")))
    };
    let mut rules = vec![
        Rule::renamed("embed", "model.embed_tokens.weight"),
        layer("input_norm.weight", "input_layernorm.weight").or("model.layers.{}.ln1.weight"),
        layer("post_norm.weight", "post_attention_layernorm.weight").or("model.layers.{}.ln2.weight"),
        Rule::renamed("norm.weight", "model.norm.weight"),
        Rule::renamed("head.weight", "lm_head.weight"),
        Rule::ignored("model.layers.{}.self_attn.rotary_emb.inv_freq"),
        Rule::ignored("model.rotary_emb.inv_freq"),
    ];
    rules.extend(linear("attention.qkv.q", "self_attn.q_proj"));
    rules.extend(linear("attention.qkv.k", "self_attn.k_proj"));
    rules.extend(linear("attention.qkv.v", "self_attn.v_proj"));
    rules.extend(linear("attention.output", "self_attn.o_proj"));
    rules.extend(linear("mlp.gate", "mlp.gate_proj"));
    rules.extend(linear("mlp.up", "mlp.up_proj"));
    rules.extend(linear("mlp.down", "mlp.down_proj"));
    rules
}
