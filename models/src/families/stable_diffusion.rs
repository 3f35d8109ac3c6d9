//! Stable Diffusion 1.x, 2.x and XL (Rombach et al. 2021, arXiv:2112.10752; Podell et al. 2023, arXiv:2307.01952), by the
//! `UNet2DConditionModel` of their pipelines (reference: diffusers' `models/unets/unet_2d_condition.py`).
//!
//! Oddities:
//! - A folder is a pipeline: `unet/` has this configuration, `scheduler/` says how pictures become noise.
//! - `attention_head_dim` is the *number* of heads.
//! - The maps around transformer blocks are convolutions of one pixel in 1.x, linear maps in 2.x and XL.
//! - Norms of transformers have an epsilon of their own, whatever `norm_eps` says.
//! - In the gated MLP the second half is the gate.
//! - Each resnet block on the way up reads a skip, the last first, so it has other inputs than the one beside it.

mod parts;
mod sampler;

pub(crate) use parts::{text, text_rules, vae, vae_rules};
pub use sampler::sampler;

use super::common::activation;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::diffusion::{
    AddedEmbedding, Betas, ConvolutionConfig, DiffusionConfig, EmbeddedTime, GroupNormConfig, PartsConfig,
    ResnetConfig, Schedule, Sinusoid, SpatialConfig, StageConfig, Target, UNetConfig,
};
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::weights::{Layout, Rule};

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["UNet2DConditionModel"],
    models: "Stable Diffusion 1.x, 2.x, XL",
    targets: &["to_q", "to_k", "to_v", "to_out.0"],
    prompt: BasePrompt::Wordless,
    // The reference has a default for every key.
    silent: &[],
    network: NetworkDefinition::Diffusion { config, rules },
};

/// The most blocks of a stage or of a transformer; the largest published ones have 10.
const MOST: usize = 1 << 10;
/// The most stages: each halves the picture.
const MOST_STAGES: usize = 16;
/// The most steps of a schedule; all published ones have 1000.
const MOST_TIMES: usize = 1 << 20;
/// Epsilon of the norm before transformer blocks.
const SPATIAL_EPS: f64 = 1e-6;

/// Reads `config.json` of the UNet, and the schedule of the pipeline around it.
fn config(config: &HfConfig) -> Result<DiffusionConfig, ModelError> {
    refuse(config)?;
    let keys = Keys::read(config)?;
    let (first, last) = (keys.channels[0], keys.channels[keys.channels.len() - 1]);
    let kernel = |key: &str| -> Result<usize, ModelError> {
        let kernel = config.optional_size(key)?.unwrap_or(3);
        match kernel % 2 {
            1 => Ok(kernel),
            _ => Err(config.wrong(key, "an odd number", kernel.to_string())),
        }
    };
    let inputs = config.optional_size("in_channels")?.unwrap_or(4);
    let outputs = config.optional_size("out_channels")?.unwrap_or(4);
    let width = config.optional_size("time_embedding_dim")?.unwrap_or(4 * first);
    let waves = |width: usize| Sinusoid { width, cosines_first: keys.cosines_first, shift: keys.shift };
    let unet = UNetConfig {
        input: ConvolutionConfig::same(inputs, first, kernel("conv_in_kernel")?),
        output: ConvolutionConfig::same(first, outputs, kernel("conv_out_kernel")?),
        norm: keys.resnet.norm,
        activation: keys.resnet.activation,
        time: EmbeddedTime { sinusoid: waves(first), width, activation: keys.resnet.activation },
        added: added(config, waves)?,
        text: keys.text,
        down: keys.down(config)?,
        middle: keys.stage(vec![last; 2], keys.channels.len() - 1, true, None),
        up: keys.up(config)?,
        sample: sample(config)?,
    };
    let (schedule, sampler) = match scheduler(config)? {
        Some(keys) => (Some(schedule(&keys)?), sampler(&keys).ok()),
        None => (None, None),
    };
    Ok(DiffusionConfig { unet, schedule, sampler, parts: frozen(config) })
}

/// Error: a key whose value changes the arithmetic in a way that is not implemented.
fn refuse(config: &HfConfig) -> Result<(), ModelError> {
    for key in ["center_input_sample", "only_cross_attention", "dual_cross_attention", "class_embeddings_concat"] {
        config.only(key, false)?;
    }
    for key in ["mid_block_only_cross_attention", "resnet_skip_time_act"] {
        config.only(key, false)?;
    }
    for key in ["mid_block_scale_factor", "resnet_out_scale_factor"] {
        config.only(key, 1)?;
    }
    config.only("resnet_time_scale_shift", "default")?;
    config.only("time_embedding_type", "positional")?;
    config.only("attention_type", "default")?;
    // Keys that are absent, or null, unless something is added that is not implemented.
    for key in [
        "class_embed_type",
        "num_class_embeds",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "time_embedding_act_fn",
        "timestep_post_act",
        "time_cond_proj_dim",
        "cross_attention_norm",
        "num_attention_heads",
        "reverse_transformer_layers_per_block",
    ] {
        config.only(key, serde_json::Value::Null)?;
    }
    // Here `null` is not the default.
    for key in ["mid_block_type", "norm_num_groups"] {
        if config.map().get(key).is_some_and(serde_json::Value::is_null) {
            return Err(config.wrong(key, "a value", "null"));
        }
    }
    config.only("mid_block_type", "UNetMidBlock2DCrossAttn")
}

/// Height and width that the network was made for.
fn sample(config: &HfConfig) -> Result<Option<usize>, ModelError> {
    match config.map().get("sample_size") {
        Some(serde_json::Value::Array(_)) => {
            Err(config.wrong("sample_size", "one number, for height and width", "a list"))
        }
        _ => config.optional_size("sample_size"),
    }
}

/// What is added to the embedding of the time.
fn added(config: &HfConfig, waves: impl Fn(usize) -> Sinusoid) -> Result<Option<AddedEmbedding>, ModelError> {
    if config.optional_string("addition_embed_type")?.is_none() {
        return Ok(None);
    }
    config.only("addition_embed_type", "text_time")?;
    let inputs = config.size("projection_class_embeddings_input_dim")?;
    Ok(Some(AddedEmbedding { sinusoid: waves(config.size("addition_time_embed_dim")?), inputs }))
}

/// The keys that several stages read.
struct Keys {
    /// Channels of each stage on the way down.
    channels: Vec<usize>,
    /// Resnet blocks of each.
    blocks: Vec<usize>,
    /// Blocks of each transformer.
    layers: Vec<usize>,
    heads: Vec<usize>,
    text: usize,
    resnet: ResnetConfig,
    pointwise: bool,
    cosines_first: bool,
    shift: f64,
    padding: usize,
}

impl Keys {
    fn read(config: &HfConfig) -> Result<Self, ModelError> {
        let channels = sizes(config, "block_out_channels")?.unwrap_or_else(|| vec![320, 640, 1280, 1280]);
        let stages = channels.len();
        if !(1..=MOST_STAGES).contains(&stages) {
            let expected = format!("a list of 1 to {MOST_STAGES} sizes");
            return Err(config.wrong("block_out_channels", expected, format!("{stages}")));
        }
        let groups = config.optional_size("norm_num_groups")?.unwrap_or(32);
        let heads = each(config, "attention_head_dim", 8, stages)?;
        for (channels, heads) in channels.iter().zip(&heads) {
            if !channels.is_multiple_of(*heads) {
                let expected = format!("numbers of heads that divide {channels} channels");
                return Err(config.wrong("attention_head_dim", expected, heads.to_string()));
            }
            if !channels.is_multiple_of(groups) {
                let expected = format!("a divisor of block_out_channels, {channels}");
                return Err(config.wrong("norm_num_groups", expected, groups.to_string()));
            }
        }
        let norm = GroupNormConfig { groups, eps: config.optional_positive_f64("norm_eps")?.unwrap_or(1e-5) };
        let activation = match config.says("act_fn") {
            true => activation(config, "act_fn")?,
            false => firebrand_kernels::Activation::Silu,
        };
        let width = config.optional_size("time_embedding_dim")?.unwrap_or(4 * channels[0]);
        Ok(Self {
            blocks: each(config, "layers_per_block", 2, stages)?,
            layers: each(config, "transformer_layers_per_block", 1, stages)?,
            heads,
            text: config.optional_size("cross_attention_dim")?.unwrap_or(1280),
            resnet: ResnetConfig { time: Some(width), norm, activation },
            pointwise: !config.bool_or("use_linear_projection", false)?,
            cosines_first: config.bool_or("flip_sin_to_cos", true)?,
            shift: config.optional_f64("freq_shift")?.unwrap_or(0.0),
            padding: config.optional_usize("downsample_padding")?.unwrap_or(1).min(2),
            channels,
        })
    }

    /// A stage whose resnet blocks read so many channels, at a resolution.
    fn stage(&self, inputs: Vec<usize>, at: usize, sees: bool, resample: Option<ConvolutionConfig>) -> StageConfig {
        let norm = GroupNormConfig { eps: SPATIAL_EPS, ..self.resnet.norm };
        let (layers, heads, pointwise) = (self.layers[at], self.heads[at], self.pointwise);
        let spatial = sees.then_some(SpatialConfig { layers, heads, text: self.text, norm, pointwise });
        StageConfig { inputs, channels: self.channels[at], resnet: self.resnet, spatial, resample }
    }

    fn down(&self, config: &HfConfig) -> Result<Vec<StageConfig>, ModelError> {
        let default = ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"];
        let sees = types(config, "down_block_types", &default, ["DownBlock2D", "CrossAttnDownBlock2D"])?;
        self.count(config, "down_block_types", &sees)?;
        let padding = match self.padding {
            // Zeros stand behind the picture then.
            0 => [0, 1],
            padding => [padding; 2],
        };
        let stage = |(at, sees): (usize, bool)| {
            let channels = self.channels[at];
            let mut inputs = vec![channels; self.blocks[at]];
            inputs[0] = self.channels[at.saturating_sub(1)];
            let halves = ConvolutionConfig { inputs: channels, outputs: channels, kernel: 3, stride: 2, padding };
            self.stage(inputs, at, sees, (at + 1 < self.channels.len()).then_some(halves))
        };
        Ok(sees.into_iter().enumerate().map(stage).collect())
    }

    fn up(&self, config: &HfConfig) -> Result<Vec<StageConfig>, ModelError> {
        let default = ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"];
        let sees = types(config, "up_block_types", &default, ["UpBlock2D", "CrossAttnUpBlock2D"])?;
        self.count(config, "up_block_types", &sees)?;
        let stage = |(index, sees): (usize, bool)| {
            let at = self.channels.len() - 1 - index;
            let channels = self.channels[at];
            // The skips are the outputs of the stage's blocks on the way down, and what that stage read.
            let inputs = (0..=self.blocks[at]).map(|block| {
                let before = if block == 0 { self.channels[(at + 1).min(self.channels.len() - 1)] } else { channels };
                let skip = if block == self.blocks[at] { self.channels[at.saturating_sub(1)] } else { channels };
                before + skip
            });
            let doubles = ConvolutionConfig::same(channels, channels, 3);
            self.stage(inputs.collect(), at, sees, (at > 0).then_some(doubles))
        };
        Ok(sees.into_iter().enumerate().map(stage).collect())
    }

    /// Error: not as many types as stages.
    fn count(&self, config: &HfConfig, key: &str, found: &[bool]) -> Result<(), ModelError> {
        let stages = self.channels.len();
        match found.len() == stages {
            true => Ok(()),
            false => Err(config.wrong(
                key,
                format!("{stages} types, as many as block_out_channels"),
                found.len().to_string(),
            )),
        }
    }
}

/// Whether each stage of `key` has transformers, by the types without and with them.
fn types(config: &HfConfig, key: &str, default: &[&str], [without, with]: [&str; 2]) -> Result<Vec<bool>, ModelError> {
    let found = config.optional_strings(key)?.unwrap_or_else(|| default.to_vec());
    let sees = |name: &&str| match *name {
        name if name == with => Ok(true),
        name if name == without => Ok(false),
        other => Err(config.wrong(key, format!("{without} or {with}"), format!("`{}`", crate::wording::clip(other)))),
    };
    found.iter().map(sees).collect()
}

/// Sizes, one or more of which are not.
fn sizes(config: &HfConfig, key: &str) -> Result<Option<Vec<usize>>, ModelError> {
    let found = config.optional_sizes(key)?;
    match found.iter().flatten().find(|size| !(1..=1 << 20).contains(*size)) {
        Some(wrong) => Err(config.wrong(key, "sizes from 1 to 2^20", wrong.to_string())),
        None => Ok(found),
    }
}

/// A number for each stage: a list, or one for all.
fn each(config: &HfConfig, key: &str, default: usize, stages: usize) -> Result<Vec<usize>, ModelError> {
    let found = match config.map().get(key) {
        Some(serde_json::Value::Array(_)) => sizes(config, key)?.unwrap_or_default(),
        Some(_) | None => vec![config.optional_size(key)?.unwrap_or(default); stages],
    };
    match found.iter().find(|size| **size > MOST) {
        Some(wrong) => Err(config.wrong(key, format!("numbers up to {MOST}"), wrong.to_string())),
        None if found.len() == stages => Ok(found),
        None => Err(config.wrong(key, format!("{stages} numbers, or one for all"), format!("{}", found.len()))),
    }
}

/// The configuration of the scheduler of the pipeline around the UNet, if it is there.
fn scheduler(config: &HfConfig) -> Result<Option<HfConfig>, ModelError> {
    let pipeline = config.path().parent().and_then(|folder| folder.parent());
    let path = pipeline.map(|pipeline| pipeline.join("scheduler/scheduler_config.json")).filter(|path| path.is_file());
    path.map(HfConfig::open_with_words).transpose()
}

/// How pictures become noise.
fn schedule(keys: &HfConfig) -> Result<Schedule, ModelError> {
    let count = match keys.says("num_train_timesteps") {
        true => keys.size_in("num_train_timesteps", 2..=MOST_TIMES)?,
        false => 1000,
    };
    let beta = |key: &str, default: f64| -> Result<f64, ModelError> {
        let beta = keys.optional_positive_f64(key)?.unwrap_or(default);
        match beta < 1.0 {
            true => Ok(beta),
            false => Err(keys.wrong(key, "a variance below 1", beta.to_string())),
        }
    };
    let (first, last) = (beta("beta_start", 0.0001)?, beta("beta_end", 0.02)?);
    let (betas, count) = match keys.optional_f64s("trained_betas")? {
        Some(given) => {
            let count = given.len();
            match (2..=MOST_TIMES).contains(&count) && given.iter().all(|beta| (0.0..1.0).contains(beta)) {
                true => (Betas::Given(given.into_iter().map(|beta| beta as f32).collect()), count),
                false => return Err(keys.wrong("trained_betas", "variances below 1", "others")),
            }
        }
        None if !keys.says("beta_schedule") => (Betas::Linear { first, last }, count),
        None => match keys.one_of("beta_schedule", &["linear", "scaled_linear", "squaredcos_cap_v2"])? {
            "linear" => (Betas::Linear { first, last }, count),
            "scaled_linear" => (Betas::ScaledLinear { first, last }, count),
            _ => (Betas::SquaredCosine, count),
        },
    };
    let target = match keys.says("prediction_type") {
        true => keys.one_of("prediction_type", &["epsilon", "v_prediction"])?,
        false => "epsilon",
    };
    let target = if target == "epsilon" { Target::Noise } else { Target::Velocity };
    Ok(Schedule::new(&betas, count, keys.bool_or("rescale_betas_zero_snr", false)?, target))
}

/// The frozen networks of the pipeline around the UNet, if they are there and supported. What is wrong with one is said where a
/// row needs it.
fn frozen(config: &HfConfig) -> Option<PartsConfig> {
    let folder = config.path().parent()?.parent()?;
    let vae = vae(&HfConfig::open(folder.join("vae/config.json")).ok()?).ok()?;
    let texts = ["text_encoder", "text_encoder_2"].map(|name| folder.join(name).join("config.json"));
    let texts = texts.iter().filter(|path| path.is_file());
    let texts = texts.map(|path| Some(text(&HfConfig::open(path).ok()?).ok()?.0)).collect::<Option<Vec<_>>>()?;
    let pipeline = HfConfig::open(folder.join("model_index.json")).ok()?;
    // The pipeline of two encoders says true where its file says nothing.
    let silent_without_prompt = pipeline.bool_or("force_zeros_for_empty_prompt", texts.len() > 1).ok()?;
    let parts = PartsConfig { folder: folder.to_path_buf(), vae, texts, silent_without_prompt };
    Some(parts).filter(|parts| !parts.texts.is_empty())
}

/// The names of tensors.
fn rules(config: &DiffusionConfig) -> Vec<Rule> {
    let mut rules = vec![];
    let mut both = |ours: &str, theirs: &str| {
        for part in ["weight", "bias"] {
            rules.push(Rule::renamed(&format!("unet.{ours}.{part}"), &format!("{theirs}.{part}")));
        }
    };
    both("input", "conv_in");
    both("norm", "conv_norm_out");
    both("output", "conv_out");
    for (ours, theirs) in [("time", "time_embedding"), ("added", "add_embedding")] {
        both(&format!("{ours}.first"), &format!("{theirs}.linear_1"));
        both(&format!("{ours}.second"), &format!("{theirs}.linear_2"));
    }
    both("down.{}.resample", "down_blocks.{}.downsamplers.0.conv");
    both("up.{}.resample", "up_blocks.{}.upsamplers.0.conv");
    let stages = [("down.{}", "down_blocks.{}"), ("middle", "mid_block"), ("up.{}", "up_blocks.{}")];
    for (ours, theirs) in stages {
        for (part, name) in [
            ("norm_first", "norm1"),
            ("first", "conv1"),
            ("time", "time_emb_proj"),
            ("norm_second", "norm2"),
            ("second", "conv2"),
            ("shortcut", "conv_shortcut"),
        ] {
            both(&format!("{ours}.resnets.{{}}.{part}"), &format!("{theirs}.resnets.{{}}.{name}"));
        }
        let (ours, theirs) = (format!("{ours}.transformers.{{}}"), format!("{theirs}.attentions.{{}}"));
        both(&format!("{ours}.norm"), &format!("{theirs}.norm"));
        let (ours, theirs) = (format!("{ours}.layers.{{}}"), format!("{theirs}.transformer_blocks.{{}}"));
        for (part, name) in [
            ("norm_own", "norm1"),
            ("norm_cross", "norm2"),
            ("norm_mlp", "norm3"),
            ("mlp.up_gate", "ff.net.0.proj"),
            ("mlp.down", "ff.net.2"),
            ("own.output", "attn1.to_out.0"),
            ("cross.output", "attn2.to_out.0"),
        ] {
            both(&format!("{ours}.{part}"), &format!("{theirs}.{name}"));
        }
    }
    let pointwise = config.unet.middle.spatial.is_some_and(|spatial| spatial.pointwise);
    for (ours, theirs) in stages {
        for (part, name) in [("input", "proj_in"), ("output", "proj_out")] {
            let (ours, theirs) =
                (format!("unet.{ours}.transformers.{{}}.{part}"), format!("{theirs}.attentions.{{}}.{name}"));
            let weight = Rule::renamed(&format!("{ours}.weight"), &format!("{theirs}.weight"));
            rules.push(if pointwise { weight.laid_out(Layout::Pointwise) } else { weight });
            rules.push(Rule::renamed(&format!("{ours}.bias"), &format!("{theirs}.bias")));
        }
        for (part, name) in [("own", "attn1"), ("cross", "attn2")] {
            for map in ["q", "k", "v"] {
                rules.push(Rule::renamed(
                    &format!("unet.{ours}.transformers.{{}}.layers.{{}}.{part}.{map}.weight"),
                    &format!("{theirs}.attentions.{{}}.transformer_blocks.{{}}.{name}.to_{map}.weight"),
                ));
            }
        }
    }
    rules
}
