//! Code that many families share: reading keys ([`Gated`], [`Plain`], [`Heads`]) and listing names of tensors
//! ([`Names`]).

use firebrand_kernels::{Activation, RopeStyle};

use crate::decoder::{DecoderConfig, HeadConfig};
use crate::error::ModelError;
use crate::hf_config::{HfConfig, RopeDefaults};
use crate::parts::{
    Affine, AttentionConfig, BlockConfig, BlockInitials, EmbeddingConfig, MlpConfig, NormConfig, PositionConfig,
    QkvLayout, Residual, Scale, Sight, Window,
};
use crate::weights::Rule;

/// The decoder of LLaMA and its relatives: a family's defaults for missing keys, and its names of keys.
pub(super) struct Gated {
    /// Base of the rotary wavelengths.
    pub theta: f64,
    /// `tie_word_embeddings`.
    pub tied_head: bool,
    /// `head_dim`; absent: `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// The key of the activation.
    pub activation: &'static str,
}

impl Default for Gated {
    fn default() -> Self {
        Self { theta: 10_000.0, tied_head: false, head_dim: None, activation: "hidden_act" }
    }
}

impl Gated {
    /// A decoder with RMSNorm before each branch, rotary positions on halves of the head, grouped-query attention, a
    /// gated MLP and no biases.
    pub fn decoder(&self, config: &HfConfig) -> Result<DecoderConfig, ModelError> {
        let defaults = RopeDefaults { theta: self.theta, partial_rotary_factor: 1.0 };
        self.decoder_with(config, |head_dim| {
            Ok(PositionConfig::Rope { style: RopeStyle::Half, rope: config.rope(head_dim, &defaults)? })
        })
    }

    /// The same with positions that are computed from the width of a head.
    pub fn decoder_with(
        &self,
        config: &HfConfig,
        position: impl FnOnce(usize) -> Result<PositionConfig, ModelError>,
    ) -> Result<DecoderConfig, ModelError> {
        let heads = Heads::read(config, "num_attention_heads", "num_key_value_heads", self.head_dim)?;
        let intermediate_size = config.size("intermediate_size")?;
        Ok(DecoderConfig {
            vocab_size: config.size("vocab_size")?,
            layers: config.size_in("num_hidden_layers", 1..=MOST_LAYERS)?,
            padding_token: padding_token(config)?,
            max_positions: config.size("max_position_embeddings")?,
            embedding: EmbeddingConfig::Plain,
            classes: None,
            padding: None,
            head: head(config, self.tied_head)?,
            initializer_range: config.optional_f64("initializer_range")?.unwrap_or(0.02),
            block: BlockConfig {
                width: config.size("hidden_size")?,
                attention: heads.attention(),
                position: position(heads.head_dim)?,
                norm: NormConfig::Rms { eps: config.positive_f64("rms_norm_eps")? },
                residual: Residual::Sequential,
                mlp: MlpConfig::Gated {
                    intermediate_size,
                    activation: activation(config, self.activation)?,
                    bias: false,
                },
                initials: BlockInitials::NORMAL,
            },
        })
    }
}

/// The decoder of older families: learned or rotary positions, LayerNorm with bias, as many key-value heads as query
/// heads, and an MLP of two matrices with biases. Fields that differ in every such family are arguments.
pub(super) struct Plain {
    /// The key of the number of blocks.
    pub layers: &'static str,
    /// The key of the longest sequence.
    pub max_positions: &'static str,
    /// The key of the norms' epsilon.
    pub eps: &'static str,
    /// The key of the MLP's width; where the file lacks it, four times `hidden_size`.
    pub intermediate_size: &'static str,
    /// `tie_word_embeddings` where the file lacks it.
    pub tied_head: bool,
}

impl Plain {
    /// Reads the keys.
    pub fn decoder(
        &self,
        config: &HfConfig,
        hidden_size: usize,
        attention: AttentionConfig,
        position: PositionConfig,
        activation: Activation,
    ) -> Result<DecoderConfig, ModelError> {
        let intermediate_size = config.optional_size(self.intermediate_size)?.unwrap_or(4 * hidden_size);
        Ok(DecoderConfig {
            vocab_size: config.size("vocab_size")?,
            layers: config.size_in(self.layers, 1..=MOST_LAYERS)?,
            padding_token: None,
            max_positions: config.optional_size(self.max_positions)?.unwrap_or(2048),
            embedding: EmbeddingConfig::Plain,
            classes: None,
            padding: None,
            head: head(config, self.tied_head)?,
            initializer_range: config.optional_f64("initializer_range")?.unwrap_or(0.02),
            block: BlockConfig {
                width: hidden_size,
                attention,
                position,
                norm: NormConfig::Layer {
                    eps: config.optional_positive_f64(self.eps)?.unwrap_or(1e-5),
                    affine: Affine::WeightAndBias,
                },
                residual: Residual::Sequential,
                mlp: MlpConfig::Plain { intermediate_size, activation, bias: true },
                initials: BlockInitials::NORMAL,
            },
        })
    }
}

/// `pad_token_id`; -1, in the first conversions of LLaMA, means the last token to `nn.Embedding`.
pub(super) fn padding_token(config: &HfConfig) -> Result<Option<usize>, ModelError> {
    match config.map().get("pad_token_id").and_then(|id| id.as_i64()) {
        Some(-1) => Ok(Some(config.size("vocab_size")? - 1)),
        _ => config.optional_usize("pad_token_id"),
    }
}

/// The most layers that a config may have: far more than any published model has.
pub(super) const MOST_LAYERS: usize = 10_000;

/// The numbers of heads and their width.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl Heads {
    /// Reads the keys `heads`, `kv_heads` (absent: as many as `heads`) and `head_dim` (absent: `otherwise`, else
    /// `hidden_size` divided by the number of heads).
    pub fn read(config: &HfConfig, heads: &str, kv_heads: &str, otherwise: Option<usize>) -> Result<Self, ModelError> {
        let hidden_size = config.size("hidden_size")?;
        let (count_key, count) = (heads, config.size(heads)?);
        let kv_count = config.optional_size(kv_heads)?.unwrap_or(count);
        if !count.is_multiple_of(kv_count) {
            return Err(config.wrong(kv_heads, format!("a divisor of {count_key} = {count}"), kv_count.to_string()));
        }
        let head_dim = match config.optional_size("head_dim")?.or(otherwise) {
            Some(head_dim) => head_dim,
            None => divided(config, count_key, hidden_size, count)?,
        };
        Ok(Self { heads: count, kv_heads: kv_count, head_dim })
    }

    /// Reads the number of heads from one key, for families with as many key-value heads as query heads. It must divide
    /// the width.
    pub fn of_width(config: &HfConfig, key: &str, hidden_size: usize) -> Result<Self, ModelError> {
        let heads = config.size(key)?;
        Ok(Self { heads, kv_heads: heads, head_dim: divided(config, key, hidden_size, heads)? })
    }

    /// Separate projections without biases, scores divided by the root of the head's width, causal attention without a
    /// window.
    pub fn attention(self) -> AttentionConfig {
        AttentionConfig {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            layout: QkvLayout::Split,
            qkv_bias: false,
            output_bias: false,
            qk_norm: None,
            clip: None,
            scale: Scale::Fixed((self.head_dim as f64).powf(-0.5)),
            softcap: None,
            sight: Sight::Causal(Window::Full),
        }
    }
}

fn divided(config: &HfConfig, key: &str, hidden_size: usize, heads: usize) -> Result<usize, ModelError> {
    if hidden_size.is_multiple_of(heads) {
        return Ok(hidden_size / heads);
    }
    Err(config.wrong(key, format!("a divisor of the hidden size, {hidden_size}"), heads.to_string()))
}

/// The activation under `key`, which uses Hugging Face's names.
pub(super) fn activation(config: &HfConfig, key: &str) -> Result<Activation, ModelError> {
    let known = ["silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu", "quick_gelu"];
    Ok(match config.one_of(key, &known)? {
        "silu" | "swish" => Activation::Silu,
        "gelu" => Activation::GeluExact,
        "relu" => Activation::Relu,
        "quick_gelu" => Activation::QuickGelu,
        _ => Activation::GeluTanh,
    })
}

/// A head without bias. It is tied as `tie_word_embeddings` says, or as `tied` where the key is absent.
pub(super) fn head(config: &HfConfig, tied: bool) -> Result<HeadConfig, ModelError> {
    Ok(HeadConfig { tied: config.bool_or("tie_word_embeddings", tied)?, bias: false, softcap: None })
}

/// The windows of `layer_types`; where the key is absent, the layers for which `slides` (counted from zero) have a
/// window.
pub(super) fn windows(
    config: &HfConfig,
    layers: usize,
    window: Option<usize>,
    slides: impl Fn(usize) -> bool,
) -> Result<Window, ModelError> {
    let sliding: Vec<bool> = match config.optional_strings("layer_types")? {
        None => (0..layers).map(slides).collect(),
        Some(kinds) => {
            let kind = |kind: &&str| match *kind {
                "full_attention" => Ok(false),
                "sliding_attention" => Ok(true),
                other => Err(config.wrong("layer_types", "full_attention or sliding_attention", format!("`{other}`"))),
            };
            kinds.iter().map(kind).collect::<Result<_, _>>()?
        }
    };
    if sliding.len() != layers {
        return Err(config.wrong("layer_types", format!("{layers} entries"), sliding.len().to_string()));
    }
    match window {
        _ if !sliding.contains(&true) => Ok(Window::Full),
        Some(window) => Ok(Window::Pattern(sliding.into_iter().map(|slides| slides.then_some(window)).collect())),
        None => Err(config.wrong("sliding_window", "a size, because some layers are windowed", "nothing")),
    }
}

/// A list of rules for names of tensors. Files of a model without its head lack the name in front of everything else
/// (`model.`, `transformer.`), and so do some published ones: both spellings are read.
pub(super) struct Names {
    base: &'static str,
    layer: String,
    rules: Vec<Rule>,
}

impl Names {
    /// `base` stands in front of all names but the head's; `layers` is the name of the list of blocks below it.
    pub fn new(base: &'static str, layers: &str) -> Self {
        Self { base, layer: format!("{base}.{layers}.{{}}"), rules: vec![] }
    }

    /// The names of LLaMA's files, which many families share, without those of the MLP and of norms in the blocks.
    pub fn llama() -> Self {
        Self::new("model", "layers")
            .tensor("embed.tokens", "model.embed_tokens.weight")
            .norm("norm", "model.norm")
            .head("lm_head")
            .linear("attention.output", "self_attn.o_proj")
            .ignored("model.layers.{}.self_attn.rotary_emb.inv_freq")
            .ignored("model.rotary_emb.inv_freq")
    }

    /// Separate projections to q, k and v.
    pub fn split_qkv(self, theirs: &str) -> Self {
        ["q", "k", "v"]
            .iter()
            .fold(self, |names, part| names.linear(&format!("attention.qkv.{part}"), &format!("{theirs}.{part}_proj")))
    }

    /// Gate, up and down as LLaMA names them.
    pub fn gated_mlp(self) -> Self {
        self.linear("mlp.gate", "mlp.gate_proj").linear("mlp.up", "mlp.up_proj").linear("mlp.down", "mlp.down_proj")
    }

    /// A tensor outside the blocks, by its full name.
    pub fn tensor(self, ours: &str, theirs: &str) -> Self {
        let rule = self.with_alias(Rule::renamed(ours, theirs), theirs);
        self.rule(rule)
    }

    /// Weight and bias of a norm outside the blocks.
    pub fn norm(self, ours: &str, theirs: &str) -> Self {
        PARTS.iter().fold(self, |names, part| names.tensor(&format!("{ours}.{part}"), &format!("{theirs}.{part}")))
    }

    /// Weight and bias of the output head.
    pub fn head(self, theirs: &str) -> Self {
        PARTS
            .iter()
            .fold(self, |names, part| names.rule(Rule::renamed(&format!("head.{part}"), &format!("{theirs}.{part}"))))
    }

    /// Weight and bias of a linear map, or of a norm, in the blocks.
    pub fn linear(self, ours: &str, theirs: &str) -> Self {
        PARTS.iter().fold(self, |names, part| {
            let theirs = format!("{}.{theirs}.{part}", names.layer);
            names.tensor(&format!("layers.{{}}.{ours}.{part}"), &theirs)
        })
    }

    /// A linear map in the blocks whose files hold the weight as `[in, out]`, as GPT-2's `Conv1D` does.
    pub fn transposed(self, ours: &str, theirs: &str) -> Self {
        let (weight, bias) = (format!("{}.{theirs}.weight", self.layer), format!("{}.{theirs}.bias", self.layer));
        let rule = Rule::renamed(&format!("layers.{{}}.{ours}.weight"), &weight).transposed();
        let rule = self.with_alias(rule, &weight);
        self.rule(rule).tensor(&format!("layers.{{}}.{ours}.bias"), &bias)
    }

    /// A buffer that files may hold and that the model does not need, by its full name.
    pub fn ignored(self, theirs: &str) -> Self {
        let short = theirs.strip_prefix(self.base).and_then(|name| name.strip_prefix('.')).map(str::to_string);
        let names = self.rule(Rule::ignored(theirs));
        match short {
            Some(short) => names.rule(Rule::ignored(&short)),
            None => names,
        }
    }

    /// Any other rule.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The list of rules.
    pub fn rules(self) -> Vec<Rule> {
        self.rules
    }

    fn with_alias(&self, rule: Rule, theirs: &str) -> Rule {
        match theirs.strip_prefix(self.base).and_then(|name| name.strip_prefix('.')) {
            Some(short) => rule.or(short),
            None => rule,
        }
    }
}

const PARTS: [&str; 2] = ["weight", "bias"];
