//! GPT-Neo (Black et al. 2021, doi:10.5281/zenodo.5297715). `model_type` "gpt_neo"; reference: transformers
//! `models/gpt_neo/modeling_gpt_neo.py`.
//!
//! GPT-3's architecture: learned positions, and layers that alternate between full and windowed attention
//! (`attention_types`). Scores are not scaled. q, k and v have no biases, the output projection has one.

use serde_json::Value;

use super::common::{Heads, Names, Plain, activation};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::parts::{AttentionConfig, BlockConfig, PositionConfig, Scale, Sight, Window};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["gpt_neo"],
    models: "GPT-Neo 125M, 1.3B, 2.7B",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(50_257)),
        (&["hidden_size"], Silent::Size(2048)),
        (&["num_layers", "num_hidden_layers"], Silent::Size(24)),
        (&["activation_function"], Silent::Text("gelu_new")),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "GPTNeoForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let hidden_size = config.size("hidden_size")?;
    let heads = Heads::of_width(config, config.spelling(&["num_heads", "num_attention_heads"])?, hidden_size)?;
    let keys = Plain {
        layers: config.spelling(&["num_layers", "num_hidden_layers"])?,
        max_positions: "max_position_embeddings",
        eps: "layer_norm_epsilon",
        intermediate_size: "intermediate_size",
        tied_head: true,
    };
    let attention = AttentionConfig { output_bias: true, scale: Scale::Fixed(1.0), ..heads.attention() };
    let position = PositionConfig::Learned { offset: 0 };
    let act = activation(config, "activation_function")?;
    let decoder = keys.decoder(config, hidden_size, attention, position, act)?;
    let window = windows(config, decoder.layers)?;
    Ok(DecoderConfig {
        block: BlockConfig {
            attention: AttentionConfig { sight: Sight::Causal(window), ..decoder.block.attention },
            ..decoder.block
        },
        ..decoder
    })
}

/// `attention_types` is a list of `[kinds, repetitions]`; newer files also write it out as `attention_layers`.
fn windows(config: &HfConfig, layers: usize) -> Result<Window, ModelError> {
    let window = config.optional_size("window_size")?.unwrap_or(256);
    let kinds: Vec<String> = match config.map().get("attention_types").filter(|types| !types.is_null()) {
        Some(types) => repeated(types).ok_or_else(|| {
            config.wrong("attention_types", "a list like [[[\"global\", \"local\"], 12]]", types.to_string())
        })?,
        None => (0..layers).map(|layer| ["global", "local"][layer % 2].to_string()).collect(),
    };
    if kinds.len() != layers {
        let expected = format!("kinds for {layers} layers");
        return Err(config.wrong("attention_types", expected, format!("for {}", kinds.len())));
    }
    let by_layer = |kind: &String| match kind.as_str() {
        "global" => Ok(None),
        "local" => Ok(Some(window)),
        other => Err(config.wrong("attention_types", "global or local", format!("`{other}`"))),
    };
    kinds.iter().map(by_layer).collect::<Result<_, _>>().map(Window::Pattern)
}

/// The kinds of all layers; absent where `types` has another form or lists more layers than any model has.
fn repeated(types: &Value) -> Option<Vec<String>> {
    let mut kinds = vec![];
    for entry in types.as_array()? {
        let [names, times] = entry.as_array()?.as_slice() else { return None };
        let names: Option<Vec<&str>> = names.as_array()?.iter().map(Value::as_str).collect();
        for _ in 0..times.as_u64().filter(|times| *times <= super::common::MOST_LAYERS as u64)? {
            kinds.extend(names.iter().flatten().map(|name| name.to_string()));
            if kinds.len() > super::common::MOST_LAYERS {
                return None;
            }
        }
    }
    Some(kinds)
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::new("transformer", "h")
        .tensor("embed.tokens", "transformer.wte.weight")
        .tensor("embed.positions", "transformer.wpe.weight")
        .norm("norm", "transformer.ln_f")
        .head("lm_head")
        .linear("norms.attention", "ln_1")
        .linear("norms.mlp", "ln_2")
        .split_qkv("attn.attention")
        .linear("attention.output", "attn.attention.out_proj")
        .linear("mlp.up", "mlp.c_fc")
        .linear("mlp.down", "mlp.c_proj")
        .ignored("transformer.h.{}.attn.attention.bias")
        .ignored("transformer.h.{}.attn.attention.masked_bias")
        .rules()
}
