//! CLIP (Radford et al. 2021, arXiv:2103.00020). `model_type` "clip"; reference: transformers `models/clip/modeling_clip.py`.
//!
//! A tower for texts and one for pictures, LayerNorm before each branch, biases in all blocks, none on the projections. Oddities:
//! the norm before the first block of pictures is spelt `pre_layrnorm` in all files; a text ends at its largest id where
//! `eos_token_id` is 2, the default that the first files carry without meaning it, and else at the first `eos_token_id`; the
//! first files hold `position_ids`, and repeat each tower's configuration as `text_config_dict` and `vision_config_dict`, which
//! hold in place of the others where they are there.

use super::common::{MOST_LAYERS, activation};
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{
    Affine, AttentionConfig, BlockConfig, MlpConfig, NormConfig, PatchesConfig, PositionConfig, QkvLayout, Residual,
    Scale, Sight, Window,
};
use crate::towers::{EndOfText, TextConfig, TowersConfig, VisionConfig};
use crate::weights::{Layout, Rule};

/// What is known of the family.
pub const FAMILY: Definition = Definition {
    names: &["clip"],
    models: "CLIP B/32, B/16, L/14, L/14-336",
    // PEFT has no choice of its own for `clip`.
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Wordless,
    network: NetworkDefinition::Towers { config, rules },
};

/// The `eos_token_id` of files that mean the largest id.
const NOT_MEANT: usize = 2;

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<TowersConfig, ModelError> {
    let (text, vision) = (tower(config, "text")?, tower(config, "vision")?);
    Ok(TowersConfig {
        text: text_tower(&text)?,
        vision: vision_tower(&vision)?,
        embedding: config.optional_size("projection_dim")?.unwrap_or(512),
        temperature: config.optional_f64("logit_scale_init_value")?.unwrap_or(2.6592) as f32,
        initializer_range: text.optional_f64("initializer_range")?.unwrap_or(0.02),
    })
}

/// The configuration of a tower. Where `{tower}_config_dict` is there it is the whole of it, the defaults for what it leaves out
/// included, and `{tower}_config` is not looked at.
fn tower(config: &HfConfig, name: &str) -> Result<HfConfig, ModelError> {
    let section = match config.section(&format!("{name}_config_dict"))? {
        Some(section) => Some(section),
        None => config.section(&format!("{name}_config"))?,
    };
    section.map_or_else(|| HfConfig::from_json(config.path(), "{}"), Ok)
}

fn text_tower(keys: &HfConfig) -> Result<TextConfig, ModelError> {
    let end = keys.optional_usize("eos_token_id")?.unwrap_or(49_407);
    Ok(TextConfig {
        vocab_size: keys.optional_size("vocab_size")?.unwrap_or(49_408),
        max_positions: keys.optional_size("max_position_embeddings")?.unwrap_or(77),
        layers: layers(keys)?,
        block: block(keys, Defaults { width: 512, heads: 8, middle: 2048 }, Sight::Causal(Window::Full))?,
        end: if end == NOT_MEANT { EndOfText::LargestId } else { EndOfText::First(end as u32) },
    })
}

fn vision_tower(keys: &HfConfig) -> Result<VisionConfig, ModelError> {
    let (image, patch) =
        (keys.optional_size("image_size")?.unwrap_or(224), keys.optional_size("patch_size")?.unwrap_or(32));
    if !image.is_multiple_of(patch) {
        return Err(keys.wrong("image_size", format!("a multiple of patch_size, {patch}"), image.to_string()));
    }
    let block = block(keys, Defaults { width: 768, heads: 12, middle: 3072 }, Sight::Full)?;
    let channels = keys.optional_size("num_channels")?.unwrap_or(3);
    Ok(VisionConfig {
        patches: PatchesConfig { width: block.width, channels, image, patch },
        layers: layers(keys)?,
        block,
    })
}

/// What a tower has where its section is silent.
struct Defaults {
    width: usize,
    heads: usize,
    middle: usize,
}

fn layers(keys: &HfConfig) -> Result<usize, ModelError> {
    match keys.says("num_hidden_layers") {
        true => keys.size_in("num_hidden_layers", 1..=MOST_LAYERS),
        false => Ok(12),
    }
}

fn block(keys: &HfConfig, defaults: Defaults, sight: Sight) -> Result<BlockConfig, ModelError> {
    let width = keys.optional_size("hidden_size")?.unwrap_or(defaults.width);
    let heads = keys.optional_size("num_attention_heads")?.unwrap_or(defaults.heads);
    if !width.is_multiple_of(heads) {
        let expected = format!("a divisor of the hidden size, {width}");
        return Err(keys.wrong("num_attention_heads", expected, heads.to_string()));
    }
    let head_dim = width / heads;
    let activation = match keys.says("hidden_act") {
        true => activation(keys, "hidden_act")?,
        false => firebrand_kernels::Activation::QuickGelu,
    };
    Ok(BlockConfig {
        width,
        attention: AttentionConfig {
            heads,
            kv_heads: heads,
            head_dim,
            layout: QkvLayout::Split,
            qkv_bias: true,
            output_bias: true,
            qk_norm: None,
            clip: None,
            scale: Scale::Fixed((head_dim as f64).powf(-0.5)),
            softcap: None,
            sight,
        },
        position: PositionConfig::Learned { offset: 0 },
        norm: NormConfig::Layer {
            eps: keys.optional_positive_f64("layer_norm_eps")?.unwrap_or(1e-5),
            affine: Affine::WeightAndBias,
        },
        residual: Residual::Sequential,
        mlp: MlpConfig::Plain {
            intermediate_size: keys.optional_size("intermediate_size")?.unwrap_or(defaults.middle),
            activation,
            bias: true,
        },
    })
}

/// Our names and theirs.
fn rules(_: &TowersConfig) -> Vec<Rule> {
    let mut rules = vec![
        Rule::renamed("temperature", "logit_scale").laid_out(Layout::Scalar),
        Rule::renamed("text.project.weight", "text_projection.weight"),
        Rule::renamed("vision.project.weight", "visual_projection.weight"),
        Rule::renamed("text.embed.tokens", "text_model.embeddings.token_embedding.weight"),
        Rule::renamed("text.embed.positions", "text_model.embeddings.position_embedding.weight"),
        Rule::renamed("vision.embed.kernel", "vision_model.embeddings.patch_embedding.weight"),
        Rule::renamed("vision.embed.class", "vision_model.embeddings.class_embedding"),
        Rule::renamed("vision.embed.positions", "vision_model.embeddings.position_embedding.weight"),
        Rule::ignored("text_model.embeddings.position_ids"),
        Rule::ignored("vision_model.embeddings.position_ids"),
    ];
    let mut both = |ours: &str, theirs: &str| {
        for part in ["weight", "bias"] {
            rules.push(Rule::renamed(&format!("{ours}.{part}"), &format!("{theirs}.{part}")));
        }
    };
    both("text.norm", "text_model.final_layer_norm");
    both("vision.norm_before", "vision_model.pre_layrnorm");
    both("vision.norm", "vision_model.post_layernorm");
    for tower in ["text", "vision"] {
        for (ours, theirs) in [
            ("norms.attention", "layer_norm1"),
            ("norms.mlp", "layer_norm2"),
            ("attention.qkv.q", "self_attn.q_proj"),
            ("attention.qkv.k", "self_attn.k_proj"),
            ("attention.qkv.v", "self_attn.v_proj"),
            ("attention.output", "self_attn.out_proj"),
            ("mlp.up", "mlp.fc1"),
            ("mlp.down", "mlp.fc2"),
        ] {
            both(&format!("{tower}.layers.{{}}.{ours}"), &format!("{tower}_model.encoder.layers.{{}}.{theirs}"));
        }
    }
    rules
}
