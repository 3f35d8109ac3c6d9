//! CLIP (Radford et al. 2021, arXiv:2103.00020). `model_type` "clip"; reference: transformers
//! `models/clip/modeling_clip.py`.
//!
//! A text tower and an image tower, LayerNorm before each branch, biases in all blocks, no biases on the projections.
//! Oddities: all files spell the norm before the first image block `pre_layrnorm`. Where `eos_token_id` is 2, a default
//! that the first files carry by mistake, a text ends at its largest id; otherwise it ends at the first `eos_token_id`.
//! The first files hold `position_ids`, and repeat each tower's configuration as `text_config_dict` and
//! `vision_config_dict`, which replace the other sections where they are present.

use super::common::{MOST_LAYERS, activation};
use super::{BasePrompt, Definition, NetworkDefinition, TransformersClass};
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parameters::Initial;
use crate::parts::{
    Affine, AttentionConfig, BlockConfig, BlockInitials, MlpConfig, NormConfig, PatchesConfig, PositionConfig,
    QkvLayout, Residual, Scale, Sight, Window,
};
use crate::towers::{EndOfText, TextConfig, TowersConfig, VisionConfig};
use crate::weights::{Layout, Rule};

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["clip"],
    models: "CLIP B/32, B/16, L/14, L/14-336",
    // PEFT has no default targets for `clip`.
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Wordless,
    // Its towers have theirs.
    silent: &[],
    network: NetworkDefinition::Towers {
        config,
        rules,
        class: TransformersClass { name: "CLIPModel", module: "transformers.models.clip.modeling_clip" },
    },
};

/// The `eos_token_id` of files in which a text ends at its largest id.
const NOT_MEANT: usize = 2;

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<TowersConfig, ModelError> {
    let (text, vision) = (tower(config, "text")?, tower(config, "vision")?);
    let factor = factor(config)?;
    Ok(TowersConfig {
        text: text_tower(&text, factor)?,
        vision: vision_tower(&vision, factor)?,
        embedding: config.optional_size("projection_dim")?.unwrap_or(512),
        temperature: config.optional_f64("logit_scale_init_value")?.unwrap_or(2.6592) as f32,
        initializer_range: self::factor(&vision)? * vision.optional_f64("initializer_range")?.unwrap_or(0.02),
    })
}

/// The configuration of a tower. Where `{tower}_config_dict` is present, it is used alone, with defaults for missing
/// keys, and `{tower}_config` is ignored.
fn tower(config: &HfConfig, name: &str) -> Result<HfConfig, ModelError> {
    let section = match config.section(&format!("{name}_config_dict"))? {
        Some(section) => Some(section),
        None => config.section(&format!("{name}_config"))?,
    };
    section.map_or_else(|| HfConfig::from_json(config.path(), "{}"), Ok)
}

/// The factor on all standard deviations of a model or a tower.
fn factor(keys: &HfConfig) -> Result<f64, ModelError> {
    Ok(keys.optional_f64("initializer_factor")?.unwrap_or(1.0))
}

/// `width` to the power of -1/2, the standard deviation of most matrices, times `factor`.
fn deviation(width: usize, factor: f64) -> Initial {
    Initial::NormalWith(factor * (width as f64).powf(-0.5))
}

/// The text tower of a model whose factor is `of_model`.
pub(super) fn text_tower(keys: &HfConfig, of_model: f64) -> Result<TextConfig, ModelError> {
    let end = keys.optional_usize("eos_token_id")?.unwrap_or(49_407);
    let block = block(keys, Defaults { width: 512, heads: 8, middle: 2048 }, Sight::Causal(Window::Full))?;
    Ok(TextConfig {
        vocab_size: keys.optional_size("vocab_size")?.unwrap_or(49_408),
        max_positions: keys.optional_size("max_position_embeddings")?.unwrap_or(77),
        layers: layers(keys)?,
        tables: Initial::NormalWith(0.02 * factor(keys)?),
        project: deviation(block.width, of_model),
        block,
        end: if end == NOT_MEANT { EndOfText::LargestId } else { EndOfText::First(end as u32) },
    })
}

/// The image tower of a model whose factor is `of_model`.
fn vision_tower(keys: &HfConfig, of_model: f64) -> Result<VisionConfig, ModelError> {
    let (image, patch) =
        (keys.optional_size("image_size")?.unwrap_or(224), keys.optional_size("patch_size")?.unwrap_or(32));
    if !image.is_multiple_of(patch) {
        return Err(keys.wrong("image_size", format!("a multiple of patch_size, {patch}"), image.to_string()));
    }
    let block = block(keys, Defaults { width: 768, heads: 12, middle: 3072 }, Sight::Full)?;
    let channels = keys.optional_size("num_channels")?.unwrap_or(3);
    Ok(VisionConfig {
        patches: PatchesConfig {
            width: block.width,
            channels,
            image,
            patch,
            class: deviation(block.width, factor(keys)?),
            bias: false,
            mask: false,
            registers: 0,
            interpolation: None,
        },
        layers: layers(keys)?,
        project: deviation(block.width, of_model),
        block,
    })
}

/// The values that a tower takes for missing keys.
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
        initials: initials(keys, width)?,
    })
}

/// The initial values of `_init_weights`: those of q, k and v and of the MLP's output shrink with the number of layers.
fn initials(keys: &HfConfig, width: usize) -> Result<BlockInitials, ModelError> {
    let (factor, branches) = (factor(keys)?, 2 * layers(keys)?);
    let added = deviation(width * branches, factor);
    Ok(BlockInitials { qkv: added, output: deviation(width, factor), up: deviation(2 * width, factor), down: added })
}

/// The names of tensors.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TowersConfig, ModelError> {
        config(&HfConfig::from_json("config.json", text).unwrap())
    }

    #[test]
    fn a_silent_file_is_the_first_model_published() {
        let config = read("{}").unwrap();
        assert_eq!((config.text.layers, config.text.block.width, config.text.max_positions), (12, 512, 77));
        assert_eq!((config.vision.layers, config.vision.block.width, config.vision.patches.length()), (12, 768, 50));
        assert_eq!((config.embedding, config.text.end), (512, EndOfText::First(49_407)));
    }

    #[test]
    fn the_section_of_the_first_files_holds_in_place_of_the_other() {
        let both = r#"{"text_config": {"hidden_size": 32, "eos_token_id": 5}, "text_config_dict": {"hidden_size": 64, "eos_token_id": 2}}"#;
        let config = read(both).unwrap();
        assert_eq!((config.text.block.width, config.text.end), (64, EndOfText::LargestId));
        let empty = read(r#"{"text_config": {"hidden_size": 32}, "text_config_dict": null}"#).unwrap();
        assert_eq!(empty.text.block.width, 32);
    }

    #[test]
    fn new_matrices_are_the_smaller_the_deeper_the_stack() {
        let sections = r#"{"initializer_factor": 3.0, "text_config": {"hidden_size": 64, "num_hidden_layers": 8, "initializer_factor": 2.0}}"#;
        let text = read(sections).unwrap().text;
        assert_eq!(text.block.initials.qkv, Initial::NormalWith(2.0 / 32.0));
        assert_eq!(text.block.initials.output, Initial::NormalWith(2.0 / 8.0));
        assert_eq!(text.project, Initial::NormalWith(3.0 / 8.0));
        assert_eq!(text.tables, Initial::NormalWith(0.04));
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_by_their_key() {
        let patches = read(r#"{"vision_config": {"image_size": 30, "patch_size": 7}}"#).unwrap_err().to_string();
        assert!(patches.contains("image_size") && patches.contains("a multiple of patch_size, 7"), "{patches}");
        let heads = read(r#"{"text_config": {"hidden_size": 30, "num_attention_heads": 7}}"#).unwrap_err().to_string();
        assert!(heads.contains("num_attention_heads"), "{heads}");
    }
}
