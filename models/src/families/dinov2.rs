//! DINOv2 (Oquab et al. 2023, arXiv:2304.07193). `model_type` "dinov2"; reference: transformers 5.24
//! `models/dinov2/modeling_dinov2.py`.
//!
//! A transformer over patches, LayerNorm before each branch and LayerScale behind it, biases everywhere. A classifier scores the
//! class state beside the mean of the patches' states; most published folders hold the model without that head, and their
//! names lack the prefix.
//! Oddities: names of modules in memory, by which PEFT names adapters, are others than in files (`q_proj`, not
//! `attention.query`). The MLP with a gate, of the largest size, is one matrix in files and two in memory. `mask_token` is for
//! pretraining, and nothing here reads it. The configuration has no width of the MLP: it follows from `mlp_ratio`, and with a
//! gate is two thirds of that, rounded up to a multiple of 8. The share of dropped paths is the same in all blocks.

use firebrand_kernels::Activation;

use super::common::{MOST_LAYERS, activation};
use super::{BasePrompt, Definition, NetworkDefinition, TransformersClass};
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::image::ImageConfig;
use crate::parameters::Initial;
use crate::parts::{
    Affine, AttentionConfig, BlockConfig, BlockInitials, Interpolation, MlpConfig, NormConfig, PatchesConfig,
    PositionConfig, QkvLayout, Residual, Scale, Sight,
};
use crate::weights::{InMemory, Layout, Rule};

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["dinov2"],
    models: "DINOv2 S/14, B/14, L/14, g/14",
    // PEFT has no default targets for `dinov2`.
    targets: &[],
    prompt: BasePrompt::Wordless,
    // Every key of the configuration has a default, which is read with it.
    silent: &[],
    network: NetworkDefinition::Image {
        config,
        rules,
        class: TransformersClass {
            name: "Dinov2ForImageClassification",
            module: "transformers.models.dinov2.modeling_dinov2",
        },
    },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<ImageConfig, ModelError> {
    let registers = Registers { count: 0, patch: 14, interpolation: Interpolation::Bicubic };
    let mask = config.bool_or("use_mask_token", true)?;
    read(config, registers, mask)
}

/// What differs between the families with and without registers.
pub(super) struct Registers {
    /// How many there are.
    pub count: usize,
    /// `patch_size` where the file lacks it.
    pub patch: usize,
    /// How positions are resampled.
    pub interpolation: Interpolation,
}

/// Reads the keys of both families; `mask` says whether there is a `mask_token`.
pub(super) fn read(config: &HfConfig, registers: Registers, mask: bool) -> Result<ImageConfig, ModelError> {
    let width = config.optional_size("hidden_size")?.unwrap_or(768);
    let patch = square(config, "patch_size", registers.patch)?;
    let image = square(config, "image_size", 224)?;
    if image < patch {
        return Err(config.wrong("image_size", format!("patch_size, {patch}, or more"), image.to_string()));
    }
    let layers = match config.says("num_hidden_layers") {
        true => config.size_in("num_hidden_layers", 1..=MOST_LAYERS)?,
        false => 12,
    };
    Ok(ImageConfig {
        patches: PatchesConfig {
            width,
            channels: config.optional_size("num_channels")?.unwrap_or(3),
            image,
            patch,
            class: Initial::Normal,
            bias: true,
            mask,
            registers: registers.count,
            interpolation: Some(registers.interpolation),
        },
        layers,
        block: block(config, width)?,
        classes: None,
        initializer_range: config.optional_f64("initializer_range")?.unwrap_or(0.02),
    })
}

/// The longest side that is accepted, in pixels.
const LARGEST: usize = 1 << 24;

/// The side of a square, which a file gives as one number or as two.
fn square(config: &HfConfig, key: &str, otherwise: usize) -> Result<usize, ModelError> {
    if !config.map().get(key).is_some_and(|value| value.is_array()) {
        return Ok(config.optional_size(key)?.unwrap_or(otherwise));
    }
    match config.optional_sizes(key)?.as_deref() {
        Some(&[height, width]) if height == width && (1..=LARGEST).contains(&height) => Ok(height),
        found => Err(config.wrong(key, "the side of a square, as one number or twice", format!("{found:?}"))),
    }
}

fn block(config: &HfConfig, width: usize) -> Result<BlockConfig, ModelError> {
    let heads = config.optional_size("num_attention_heads")?.unwrap_or(12);
    let head_dim = match config.optional_size("head_dim")? {
        Some(head_dim) => head_dim,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            let expected = format!("a divisor of the hidden size, {width}");
            return Err(config.wrong("num_attention_heads", expected, heads.to_string()));
        }
    };
    let drop_path = config.optional_f64("drop_path_rate")?.unwrap_or(0.0);
    if !(0.0..1.0).contains(&drop_path) {
        return Err(config.wrong("drop_path_rate", "a share from 0 to below 1", drop_path.to_string()));
    }
    Ok(BlockConfig {
        width,
        attention: AttentionConfig {
            heads,
            kv_heads: heads,
            head_dim,
            layout: QkvLayout::Split,
            qkv_bias: config.bool_or("qkv_bias", true)?,
            output_bias: true,
            qk_norm: None,
            clip: None,
            scale: Scale::Fixed((head_dim as f64).powf(-0.5)),
            softcap: None,
            sight: Sight::Full,
        },
        position: PositionConfig::Learned { offset: 0 },
        norm: NormConfig::Layer {
            eps: config.optional_positive_f64("layer_norm_eps")?.unwrap_or(1e-6),
            affine: Affine::WeightAndBias,
        },
        residual: Residual::Scaled {
            initial: config.optional_f64("layerscale_value")?.unwrap_or(1.0) as f32,
            drop_path,
        },
        mlp: mlp(config, width)?,
        initials: BlockInitials::NORMAL,
    })
}

fn mlp(config: &HfConfig, width: usize) -> Result<MlpConfig, ModelError> {
    let whole = width.saturating_mul(config.optional_size("mlp_ratio")?.unwrap_or(4));
    if config.bool_or("use_swiglu_ffn", false)? {
        let intermediate_size = (whole.saturating_mul(2) / 3).next_multiple_of(8);
        return Ok(MlpConfig::GatedFused { intermediate_size, activation: Activation::Silu, bias: true });
    }
    let activation = match config.says("hidden_act") {
        true => activation(config, "hidden_act")?,
        false => Activation::GeluExact,
    };
    Ok(MlpConfig::Plain { intermediate_size: whole, activation, bias: true })
}

/// The names of tensors.
fn rules(config: &ImageConfig) -> Vec<Rule> {
    names("dinov2", config)
}

/// The names of tensors of a family with this prefix. A model without a head is written without the prefix; both spellings are
/// read.
pub(super) fn names(prefix: &str, config: &ImageConfig) -> Vec<Rule> {
    let has_head = config.classes.is_some();
    let spelt = |name: &str, with: bool| if with { format!("{prefix}.{name}") } else { name.to_owned() };
    let tensor = |ours: &str, theirs: &str| Rule::renamed(ours, &spelt(theirs, has_head)).or(&spelt(theirs, !has_head));
    let embedded = |ours: &str, theirs: &str, ones: usize| {
        tensor(&format!("embed.{ours}"), &format!("embeddings.{theirs}")).laid_out(Layout::Ones(ones))
    };
    let mut rules = vec![
        Rule::renamed("score.weight", "classifier.weight"),
        Rule::renamed("score.bias", "classifier.bias"),
        embedded("class", "cls_token", 2),
        embedded("mask", "mask_token", 1),
        embedded("registers", "register_tokens", 1),
        embedded("positions", "position_embeddings", 1),
        tensor("embed.kernel", "embeddings.patch_embeddings.projection.weight"),
        tensor("embed.bias", "embeddings.patch_embeddings.projection.bias"),
        tensor("norm.weight", "layernorm.weight"),
        tensor("norm.bias", "layernorm.bias"),
        tensor("layers.{}.norms.attention.scale", "encoder.layer.{}.layer_scale1.lambda1"),
        tensor("layers.{}.norms.mlp.scale", "encoder.layer.{}.layer_scale2.lambda1"),
    ];
    for (ours, theirs, in_memory) in [
        ("norms.attention.norm", "norm1", InMemory::Same),
        ("norms.mlp.norm", "norm2", InMemory::Same),
        ("attention.qkv.q", "attention.attention.query", called("attention.q_proj")),
        ("attention.qkv.k", "attention.attention.key", called("attention.k_proj")),
        ("attention.qkv.v", "attention.attention.value", called("attention.v_proj")),
        ("attention.output", "attention.output.dense", called("attention.o_proj")),
    ]
    .into_iter()
    .chain(names_of_mlp(config.block.mlp))
    {
        for part in ["weight", "bias"] {
            let rule = tensor(&format!("layers.{{}}.{ours}.{part}"), &format!("encoder.layer.{{}}.{theirs}.{part}"));
            rules.push(match &in_memory {
                InMemory::Same => rule,
                InMemory::Called(name) => rule.called(&spelt(&format!("encoder.layer.{{}}.{name}.{part}"), has_head)),
                InMemory::Split => rule.split(),
            });
        }
    }
    rules
}

type MapNames = (&'static str, &'static str, InMemory);

fn called(name: &str) -> InMemory {
    InMemory::Called(name.to_owned())
}

fn names_of_mlp(mlp: MlpConfig) -> [MapNames; 2] {
    match mlp {
        // In memory, gate and up are two modules.
        MlpConfig::GatedFused { .. } => [
            ("mlp.gate_up", "mlp.weights_in", InMemory::Split),
            ("mlp.down", "mlp.weights_out", called("mlp.down_proj")),
        ],
        MlpConfig::Gated { .. } | MlpConfig::Plain { .. } | MlpConfig::Experts { .. } => {
            [("mlp.up", "mlp.fc1", InMemory::Same), ("mlp.down", "mlp.fc2", InMemory::Same)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ImageConfig, ModelError> {
        config(&HfConfig::from_json("config.json", text).unwrap())
    }

    #[test]
    fn a_silent_file_is_the_reference_s_own_configuration() {
        let config = read("{}").unwrap();
        assert_eq!((config.layers, config.block.width, config.block.attention.heads), (12, 768, 12));
        assert_eq!((config.patches.image, config.patches.patch, config.patches.length()), (224, 14, 257));
        assert_eq!((config.block.mlp.intermediate_size(), config.patches.mask), (3072, true));
    }

    #[test]
    fn a_gate_takes_two_thirds_rounded_up_to_eight() {
        let hidden = |text: &str| read(text).unwrap().block.mlp.intermediate_size();
        assert_eq!(hidden(r#"{"use_swiglu_ffn": true, "hidden_size": 1536, "num_attention_heads": 24}"#), 4096);
        assert_eq!(hidden(r#"{"use_swiglu_ffn": true, "hidden_size": 20, "num_attention_heads": 2}"#), 56);
        assert_eq!(
            hidden(r#"{"use_swiglu_ffn": true, "hidden_size": 20, "num_attention_heads": 2, "mlp_ratio": 3}"#),
            40
        );
    }

    #[test]
    fn sizes_are_one_number_or_the_same_twice() {
        assert_eq!(read(r#"{"image_size": [518, 518]}"#).unwrap().patches.image, 518);
        for (text, key) in [
            (r#"{"image_size": [518, 224]}"#, "image_size"),
            (r#"{"image_size": 13}"#, "image_size"),
            (r#"{"image_size": [1000000000000, 1000000000000]}"#, "image_size"),
            (r#"{"patch_size": [14]}"#, "patch_size"),
            (r#"{"num_attention_heads": 7}"#, "num_attention_heads"),
            (r#"{"drop_path_rate": 1.0}"#, "drop_path_rate"),
        ] {
            assert!(read(text).unwrap_err().to_string().contains(key), "{text}");
        }
    }
}
