//! GPT-J (Wang & Komatsuzaki 2021). `model_type` "gptj"; reference: transformers `models/gptj/modeling_gptj.py`.
//!
//! Attention and MLP in parallel after one norm. Rotary positions on neighbouring pairs of the first `rotary_dim`
//! dimensions of a head, with base 10,000. Attention has no biases; the MLP and, as in Phi only, the head have them.

use firebrand_kernels::RopeStyle;

use super::common::{Heads, Names, Plain, activation};
use super::defaults::Silent;
use super::{BasePrompt, Definition, NetworkDefinition};
use crate::decoder::{DecoderConfig, HeadConfig};
use crate::error::ModelError;
use crate::hf_config::{HfConfig, Rope};
use crate::parts::{BlockConfig, PositionConfig, Residual};
use crate::weights::Rule;

/// The definition of the family.
pub const FAMILY: Definition = Definition {
    names: &["gptj"],
    models: "GPT-J 6B",
    targets: &["q_proj", "v_proj"],
    prompt: BasePrompt::Alpaca,
    silent: &[
        (&["vocab_size"], Silent::Size(50_400)),
        (&["n_embd", "hidden_size"], Silent::Size(4096)),
        (&["n_layer", "num_hidden_layers"], Silent::Size(28)),
        (&["rotary_dim"], Silent::Size(64)),
        (&["activation_function"], Silent::Text("gelu_new")),
    ],
    network: NetworkDefinition::Decoder { config, rules, classifier: "GPTJForSequenceClassification" },
};

/// Reads `config.json`.
fn config(config: &HfConfig) -> Result<DecoderConfig, ModelError> {
    let hidden_size = config.size(config.spelling(&["n_embd", "hidden_size"])?)?;
    let heads = Heads::of_width(config, config.spelling(&["n_head", "num_attention_heads"])?, hidden_size)?;
    let dims = config.size_in("rotary_dim", 2..=heads.head_dim)?;
    if !dims.is_multiple_of(2) {
        return Err(config.wrong("rotary_dim", "an even number", dims.to_string()));
    }
    let keys = Plain {
        layers: config.spelling(&["n_layer", "num_hidden_layers"])?,
        max_positions: config.spelling(&["n_positions", "max_position_embeddings"])?,
        eps: "layer_norm_epsilon",
        intermediate_size: "n_inner",
        tied_head: false,
    };
    let rope = Rope::plain(10_000.0, dims, heads.head_dim);
    let position = PositionConfig::Rope { style: RopeStyle::Interleaved, rope };
    let act = activation(config, "activation_function")?;
    let decoder = keys.decoder(config, hidden_size, heads.attention(), position, act)?;
    let head = HeadConfig { bias: true, ..decoder.head };
    Ok(DecoderConfig { head, block: BlockConfig { residual: Residual::ParallelOneNorm, ..decoder.block }, ..decoder })
}

/// The names of tensors.
fn rules(_: &DecoderConfig) -> Vec<Rule> {
    Names::new("transformer", "h")
        .tensor("embed.tokens", "transformer.wte.weight")
        .norm("norm", "transformer.ln_f")
        .head("lm_head")
        .linear("norms.both", "ln_1")
        .split_qkv("attn")
        .linear("attention.output", "attn.out_proj")
        .linear("mlp.up", "mlp.fc_in")
        .linear("mlp.down", "mlp.fc_out")
        .ignored("transformer.h.{}.attn.bias")
        .ignored("transformer.h.{}.attn.masked_bias")
        .ignored("transformer.h.{}.attn.embed_positions")
        .rules()
}
