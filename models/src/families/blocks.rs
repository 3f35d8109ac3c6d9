//! The `config.json` of a model with some of another's blocks: [`Family::config_of_blocks`].
//!
//! Files say what differs between layers as lists with an entry for each, or by rules about a layer's number. Lists are
//! chosen from. A rule would say something else of renumbered layers, so what it says of each is written out as a list
//! where the rule alone would be read otherwise. The result is read again and compared with the blocks it is for, so a
//! key that cannot follow is an error here and never a model that computes something else.

use serde_json::{Value, json};

use super::Family;
use crate::decoder::DecoderConfig;
use crate::error::ModelError;
use crate::hf_config::HfConfig;
use crate::network::NetworkConfig;
use crate::parts::{Scale, Sight};

/// The spellings of the number of blocks.
const COUNTS: [&str; 4] = ["num_hidden_layers", "n_layer", "num_layers", "n_layers"];
/// Lists with an entry for each layer.
const LISTS: [&str; 3] = ["layer_types", "attention_layers", "no_rope_layers"];
/// The first layer with a window, in Qwen's files.
const FIRST_WINDOW: &str = "max_window_layers";

impl Family {
    /// `config` with the blocks `kept`, in this order: their number, lists of layers, and rules about layers. Every other
    /// key stays.
    ///
    /// # Errors
    /// A network that is no single stack of blocks; a key that cannot say the same of the blocks under other numbers.
    pub(crate) fn config_of_blocks(self, config: &HfConfig, kept: &[usize]) -> Result<HfConfig, ModelError> {
        let network = self.config(config)?;
        let Some(whole) = network.decoder() else {
            let problem =
                format!("a model of type {} is no language model, and students are made of those", self.name());
            return Err(ModelError::Layers { path: config.path().to_owned(), problem });
        };
        if kept.iter().copied().eq(0..whole.layers) {
            return Ok(config.clone());
        }
        let moved = kept.iter().enumerate().any(|(new, old)| new != *old);
        if moved && matches!(whole.block.attention.scale, Scale::InverseLayer(_)) {
            let expected =
                "false: a layer with another number would be scaled by another factor; keep the first layers, in order";
            return Err(config.wrong("scale_attn_by_inverse_layer_idx", expected, "true"));
        }
        let mut chosen = config.clone();
        let spellings = self.counts();
        let mut counts: Vec<&str> = spellings.iter().copied().filter(|key| present(config, key)).collect();
        if counts.is_empty() {
            counts.extend(spellings.first());
        }
        for key in counts {
            chosen.set(key, kept.len());
        }
        for key in LISTS {
            let Some(list) = config.map().get(key).and_then(Value::as_array) else { continue };
            if list.len() != whole.layers {
                return Err(config.wrong(
                    key,
                    format!("{} entries, one a layer", whole.layers),
                    list.len().to_string(),
                ));
            }
            chosen.set(key, kept.iter().filter_map(|layer| list.get(*layer).cloned()).collect::<Vec<Value>>());
        }
        if let Some(first) = config.optional_usize(FIRST_WINDOW)?.filter(|first| *first < whole.layers) {
            chosen.set(FIRST_WINDOW, kept.iter().filter(|layer| **layer < first).count());
        }
        let wanted = whole.with_blocks(kept);
        let written_out = WRITTEN_OUT.iter().map(|(key, list)| {
            let mut chosen = chosen.clone();
            chosen.set(key, list(&wanted));
            chosen
        });
        let is_of_blocks = |config: &HfConfig| self.config(config).is_ok_and(|read| is_same(&read, &wanted));
        std::iter::once(chosen.clone()).chain(written_out).find(is_of_blocks).ok_or_else(|| {
            let problem = format!("config.json of type {} cannot describe them in this order", self.name());
            ModelError::Layers { path: config.path().to_owned(), problem }
        })
    }

    /// The spellings of the number of blocks in the family's files.
    fn counts(self) -> &'static [&'static str] {
        let is_count = |spellings: &&&[&str]| spellings.iter().any(|key| COUNTS.contains(key));
        self.definition().silent.iter().map(|(spellings, _)| spellings).find(is_count).copied().unwrap_or(&[])
    }
}

/// A list of layers under its key, as it describes a decoder.
type Layers = (&'static str, fn(&DecoderConfig) -> Value);

/// Lists that say of each layer what a rule about its number says otherwise. One that the family does not read changes
/// nothing, and is not taken.
const WRITTEN_OUT: [Layers; 3] = [
    ("layer_types", |decoder| {
        let kind = |layer| if slides(decoder, layer) { "sliding_attention" } else { "full_attention" };
        (0..decoder.layers).map(kind).collect()
    }),
    ("no_rope_layers", |decoder| {
        (0..decoder.layers).map(|layer| u64::from(decoder.block.position.rope_at(layer).is_some())).collect()
    }),
    ("attention_types", |decoder| {
        let kind = |layer| if slides(decoder, layer) { "local" } else { "global" };
        json!([[(0..decoder.layers).map(kind).collect::<Value>(), 1]])
    }),
];

/// Whether layer `layer` has a window.
fn slides(decoder: &DecoderConfig, layer: usize) -> bool {
    match &decoder.block.attention.sight {
        Sight::Causal(window) => window.at(layer).is_some(),
        Sight::Full => false,
    }
}

/// Whether `read` is the network `wanted`, whose windows have no pattern where all are the same.
fn is_same(read: &NetworkConfig, wanted: &DecoderConfig) -> bool {
    read.decoder().is_some_and(|decoder| {
        let all: Vec<usize> = (0..decoder.layers).collect();
        decoder.with_blocks(&all) == *wanted
    })
}

fn present(config: &HfConfig, key: &str) -> bool {
    config.map().get(key).is_some_and(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every family with LLaMA's keys needs.
    const SIZES: &str = r#""vocab_size": 10, "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu""#;

    fn chosen(text: &str, kept: &[usize]) -> Result<HfConfig, ModelError> {
        let config = HfConfig::from_json("m/config.json", text).unwrap();
        Family::of(&config).unwrap().config_of_blocks(&config, kept)
    }

    /// The keys of a student, without those that it shares with the whole model.
    fn changes(text: &str, kept: &[usize]) -> Value {
        let (whole, chosen) = (HfConfig::from_json("c", text).unwrap(), chosen(text, kept).unwrap());
        let mut changed = chosen.map().clone();
        changed.retain(|key, value| whole.map().get(key) != Some(value));
        assert!(whole.map().keys().all(|key| chosen.map().contains_key(key)));
        Value::Object(changed)
    }

    #[test]
    fn the_number_of_layers_has_the_name_it_has_in_the_file() {
        let llama = |key: &str| format!(r#"{{"model_type": "llama", {key} {SIZES}}}"#);
        assert_eq!(changes(&llama(r#""num_hidden_layers": 4,"#), &[0, 2]), json!({"num_hidden_layers": 2}));
        assert_eq!(changes(&llama(""), &[0, 31]), json!({"num_hidden_layers": 2}), "32 are meant where it is silent");
        let gpt2 = |keys: &str| {
            format!(
                r#"{{"model_type": "gpt2", {keys}, "n_embd": 8, "n_head": 2, "n_positions": 64, "vocab_size": 10}}"#
            )
        };
        assert_eq!(changes(&gpt2(r#""n_layer": 3"#), &[2]), json!({"n_layer": 1}));
        assert_eq!(changes(&gpt2(r#""num_hidden_layers": 3"#), &[2]), json!({"num_hidden_layers": 1}));
        let both = gpt2(r#""n_layer": 3, "num_hidden_layers": 3"#);
        assert_eq!(changes(&both, &[2, 0]), json!({"n_layer": 2, "num_hidden_layers": 2}));
        let mpt = r#"{"model_type": "mpt", "d_model": 8, "n_heads": 2, "n_layers": 3, "vocab_size": 10}"#;
        assert_eq!(changes(mpt, &[0, 2]), json!({"n_layers": 2}));
        let falcon = r#"{"model_type": "falcon", "hidden_size": 8, "n_head": 2, "n_layer": 3, "vocab_size": 10}"#;
        assert_eq!(changes(falcon, &[0, 2]), json!({"n_layer": 2}));
    }

    #[test]
    fn lists_of_layers_follow() {
        let listed = format!(
            r#"{{"model_type": "gemma3_text", "num_hidden_layers": 3, "sliding_window": 5, {SIZES}, "head_dim": 4,
                "layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}}"#
        );
        let types = json!(["sliding_attention", "full_attention"]);
        assert_eq!(changes(&listed, &[2, 0]), json!({"num_hidden_layers": 2, "layer_types": types}));
        let rotated =
            format!(r#"{{"model_type": "smollm3", "num_hidden_layers": 4, "no_rope_layers": [1, 0, 0, 1], {SIZES}}}"#);
        assert_eq!(changes(&rotated, &[1, 3]), json!({"num_hidden_layers": 2, "no_rope_layers": [0, 1]}));
        let neo = r#"{"model_type": "gpt_neo", "num_layers": 4, "hidden_size": 8, "num_heads": 2, "vocab_size": 10,
            "attention_types": [[["global", "local"], 2]], "attention_layers": ["global", "local", "global", "local"]}"#;
        let expected = json!({"num_layers": 2, "attention_types": [[["global", "global"], 1]], "attention_layers": ["global", "global"]});
        assert_eq!(changes(neo, &[0, 2]), expected);
        let short = listed.replace(r#""full_attention", "#, "");
        assert!(chosen(&short, &[0]).is_err());
        let short = neo.replace(r#""attention_layers": ["global", "#, r#""attention_layers": ["#);
        let message = chosen(&short, &[0]).unwrap_err().to_string();
        assert!(message.contains("`attention_layers`: expected 4 entries, one a layer, found 3"), "{message}");
    }

    #[test]
    fn rules_about_numbers_are_written_out_where_they_would_be_read_otherwise() {
        // Every second layer slides, from the first on.
        let gemma2 = format!(
            r#"{{"model_type": "gemma2", "num_hidden_layers": 4, "sliding_window": 5, {SIZES}, "head_dim": 4}}"#
        );
        assert_eq!(changes(&gemma2, &[0, 1]), json!({"num_hidden_layers": 2}));
        let types = json!(["sliding_attention", "sliding_attention"]);
        assert_eq!(changes(&gemma2, &[0, 2]), json!({"num_hidden_layers": 2, "layer_types": types}));
        let gemma3 = format!(
            r#"{{"model_type": "gemma3_text", "num_hidden_layers": 6, "sliding_window": 5, "sliding_window_pattern": 3, {SIZES}, "head_dim": 4}}"#
        );
        let types = json!(["sliding_attention", "full_attention", "sliding_attention"]);
        assert_eq!(changes(&gemma3, &[0, 2, 4]), json!({"num_hidden_layers": 3, "layer_types": types}));
        let smollm3 =
            format!(r#"{{"model_type": "smollm3", "num_hidden_layers": 8, "no_rope_layer_interval": 4, {SIZES}}}"#);
        assert_eq!(changes(&smollm3, &[0, 3, 7]), json!({"num_hidden_layers": 3, "no_rope_layers": [1, 0, 0]}));
        let neo = r#"{"model_type": "gpt_neo", "num_layers": 4, "hidden_size": 8, "num_heads": 2, "vocab_size": 10}"#;
        assert_eq!(changes(neo, &[1, 3]), json!({"num_layers": 2, "attention_types": [[["local", "local"], 1]]}));
    }

    #[test]
    fn the_first_layer_with_a_window_follows() {
        let qwen = |used: bool, first: usize| {
            format!(
                r#"{{"model_type": "qwen2", "num_hidden_layers": 6, "use_sliding_window": {used}, "sliding_window": 5, "max_window_layers": {first}, {SIZES}}}"#
            )
        };
        for used in [true, false] {
            assert_eq!(changes(&qwen(used, 3), &[0, 2, 4]), json!({"num_hidden_layers": 3, "max_window_layers": 2}));
            assert_eq!(changes(&qwen(used, 28), &[0, 2, 4]), json!({"num_hidden_layers": 3}));
        }
        let types = json!(["sliding_attention", "full_attention"]);
        let turned = json!({"num_hidden_layers": 2, "max_window_layers": 1, "layer_types": types});
        assert_eq!(changes(&qwen(true, 3), &[5, 0]), turned);
        assert_eq!(changes(&qwen(false, 3), &[5, 0]), json!({"num_hidden_layers": 2, "max_window_layers": 1}));
    }

    #[test]
    fn a_scale_that_depends_on_the_number_is_refused_by_its_key_where_a_layer_moves() {
        let gpt2 = r#"{"model_type": "gpt2", "n_layer": 3, "n_embd": 8, "n_head": 2, "n_positions": 64, "vocab_size": 10, "scale_attn_by_inverse_layer_idx": true}"#;
        assert_eq!(changes(gpt2, &[0, 1]), json!({"n_layer": 2}));
        let message = chosen(gpt2, &[0, 2]).unwrap_err().to_string();
        assert!(message.contains("`scale_attn_by_inverse_layer_idx`"), "{message}");
    }

    #[test]
    fn all_layers_in_order_change_no_byte() {
        let text =
            format!("{{\"model_type\":  \"qwen2\", \"num_hidden_layers\": 2, \"max_window_layers\": 28, {SIZES}}}");
        assert_eq!(chosen(&text, &[0, 1]).unwrap().to_json(), text);
    }
}
