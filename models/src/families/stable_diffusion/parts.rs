//! The frozen networks of a pipeline: keys and names of `vae/` (reference: diffusers' `autoencoders/autoencoder_kl.py`) and of
//! `text_encoder/` (transformers' `CLIPTextModel`, with a projection in XL's second).
//!
//! Oddities:
//! - Attention in old files of the autoencoder has other names (`query`, `proj_attn`).
//! - Text encoders have `text_model.` before their names until transformers 5, which leaves it out.

use crate::diffusion::{GroupNormConfig, ResnetConfig, VaeConfig};
use crate::error::ModelError;
use crate::families::clip;
use crate::families::common::activation;
use crate::hf_config::HfConfig;
use crate::towers::TextConfig;
use crate::weights::{Rule, RuleSet};

/// Epsilon of all norms of an autoencoder.
const EPS: f64 = 1e-6;
/// The most stages and blocks; published ones have 4 and 2.
const MOST: usize = 16;

/// Reads `vae/config.json`.
pub(crate) fn vae(config: &HfConfig) -> Result<VaeConfig, ModelError> {
    for key in ["shift_factor", "latents_mean", "latents_std"] {
        config.only(key, serde_json::Value::Null)?;
    }
    for (key, only) in [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")] {
        if let Some(other) = config.optional_strings(key)?.unwrap_or_default().into_iter().find(|name| *name != only) {
            return Err(config.wrong(key, only, format!("`{}`", crate::wording::clip(other))));
        }
    }
    let channels = config.optional_sizes("block_out_channels")?.unwrap_or_else(|| vec![64]);
    let groups = config.optional_size("norm_num_groups")?.unwrap_or(32);
    if !(1..=MOST).contains(&channels.len())
        || channels.iter().any(|size| !(1..=1 << 20).contains(size) || size % groups > 0)
    {
        let expected = format!("1 to {MOST} sizes that norm_num_groups, {groups}, divides");
        return Err(config.wrong("block_out_channels", expected, format!("{channels:?}")));
    }
    let activation = match config.says("act_fn") {
        true => activation(config, "act_fn")?,
        false => firebrand_kernels::Activation::Silu,
    };
    Ok(VaeConfig {
        pictures: config.optional_size("in_channels")?.unwrap_or(3),
        latents: config.optional_size("latent_channels")?.unwrap_or(4),
        channels,
        blocks: match config.says("layers_per_block") {
            true => config.size_in("layers_per_block", 1..=MOST)?,
            false => 1,
        },
        resnet: ResnetConfig { time: None, norm: GroupNormConfig { groups, eps: EPS }, activation },
        attention: config.bool_or("mid_block_add_attention", true)?,
        between: [config.bool_or("use_quant_conv", true)?, config.bool_or("use_post_quant_conv", true)?],
        scaling: config.optional_positive_f64("scaling_factor")?.unwrap_or(0.18215),
    })
}

/// The names of an autoencoder's tensors.
pub(crate) fn vae_rules() -> Result<RuleSet, ModelError> {
    let mut rules = vec![];
    let mut both = |ours: String, theirs: String, old: Option<String>| {
        for part in ["weight", "bias"] {
            let rule = Rule::renamed(&format!("{ours}.{part}"), &format!("{theirs}.{part}"));
            rules.push(old.iter().fold(rule, |rule, old| rule.or(&format!("{old}.{part}"))));
        }
    };
    both("after_encoder".into(), "quant_conv".into(), None);
    both("before_decoder".into(), "post_quant_conv".into(), None);
    let of_resnet = [
        ("norm_first", "norm1"),
        ("first", "conv1"),
        ("norm_second", "norm2"),
        ("second", "conv2"),
        ("shortcut", "conv_shortcut"),
    ];
    for (half, stages, resample) in [("encoder", "down_blocks", "downsamplers"), ("decoder", "up_blocks", "upsamplers")]
    {
        for (ours, theirs) in [("input", "conv_in"), ("norm", "conv_norm_out"), ("output", "conv_out")] {
            both(format!("{half}.{ours}"), format!("{half}.{theirs}"), None);
        }
        both(format!("{half}.stages.{{}}.resample"), format!("{half}.{stages}.{{}}.{resample}.0.conv"), None);
        for (part, name) in of_resnet {
            both(
                format!("{half}.stages.{{}}.resnets.{{}}.{part}"),
                format!("{half}.{stages}.{{}}.resnets.{{}}.{name}"),
                None,
            );
            for (block, number) in [("first", 0), ("second", 1)] {
                both(
                    format!("{half}.middle.{block}.{part}"),
                    format!("{half}.mid_block.resnets.{number}.{name}"),
                    None,
                );
            }
        }
        let attention = format!("{half}.mid_block.attentions.0");
        both(format!("{half}.middle.attention.norm"), format!("{attention}.group_norm"), None);
        for (ours, theirs, old) in
            [("q", "to_q", "query"), ("k", "to_k", "key"), ("v", "to_v", "value"), ("output", "to_out.0", "proj_attn")]
        {
            both(
                format!("{half}.middle.attention.attention.{ours}"),
                format!("{attention}.{theirs}"),
                Some(format!("{attention}.{old}")),
            );
        }
    }
    RuleSet::new(rules)
}

/// Reads the configuration of a text encoder, and the width of its projection, where it has one.
pub(crate) fn text(config: &HfConfig) -> Result<(TextConfig, Option<usize>), ModelError> {
    const PROJECTED: &str = "CLIPTextModelWithProjection";
    if config.says("model_type") {
        config.one_of("model_type", &["clip_text_model", "clip"])?;
    }
    let classes = config.optional_strings("architectures")?.unwrap_or_default();
    let projects = classes.contains(&PROJECTED);
    let width = projects.then(|| config.optional_size("projection_dim").map(|width| width.unwrap_or(512)));
    Ok((clip::text_tower(config, 1.0)?, width.transpose()?))
}

/// The names of a text encoder's tensors.
pub(crate) fn text_rules() -> Result<RuleSet, ModelError> {
    let mut rules = vec![Rule::renamed("project.weight", "text_projection.weight")];
    let mut one = |ours: &str, theirs: &str| {
        rules.push(Rule::renamed(ours, &format!("text_model.{theirs}")).or(theirs));
    };
    one("embed.tokens", "embeddings.token_embedding.weight");
    one("embed.positions", "embeddings.position_embedding.weight");
    let parts = [
        ("norm", "final_layer_norm"),
        ("layers.{}.norms.attention", "encoder.layers.{}.layer_norm1"),
        ("layers.{}.norms.mlp", "encoder.layers.{}.layer_norm2"),
        ("layers.{}.attention.qkv.q", "encoder.layers.{}.self_attn.q_proj"),
        ("layers.{}.attention.qkv.k", "encoder.layers.{}.self_attn.k_proj"),
        ("layers.{}.attention.qkv.v", "encoder.layers.{}.self_attn.v_proj"),
        ("layers.{}.attention.output", "encoder.layers.{}.self_attn.out_proj"),
        ("layers.{}.mlp.up", "encoder.layers.{}.mlp.fc1"),
        ("layers.{}.mlp.down", "encoder.layers.{}.mlp.fc2"),
    ];
    for (ours, theirs) in parts {
        for part in ["weight", "bias"] {
            one(&format!("{ours}.{part}"), &format!("{theirs}.{part}"));
        }
    }
    for name in ["text_model.embeddings.position_ids", "embeddings.position_ids"] {
        rules.push(Rule::ignored(name));
    }
    RuleSet::new(rules)
}
