//! What a `config.json` that lacks a key means: [`completed`] adds the values that the reference takes.
//!
//! Published files state these keys, but files that were cut out of a larger model's (`text_config`), edited, or written
//! by other programs may lack some, and transformers then takes the value of its configuration class. Only the keys that a
//! family needs are here; keys whose default follows from others, or is the same for all, have it where they are read.
//! A number of heads that is absent is taken only where shapes show it: where the width of a head does not follow from
//! it. Anywhere else a wrong one would go unnoticed.
//!
//! Reference: transformers 5.23, `models/*/configuration_*.py`.

use serde_json::Value;

use super::Family;
use crate::error::ModelError;
use crate::hf_config::HfConfig;

/// A value that stands in no file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Taken {
    /// The key.
    pub key: &'static str,
    /// Its value in the reference.
    pub value: Value,
}

impl Taken {
    /// Whether shapes of tensors follow from it, so that a wrong value does not go unnoticed.
    pub fn is_shape(&self) -> bool {
        const SHAPES: [&str; 12] = [
            "vocab_size",
            "hidden_size",
            "n_embd",
            "d_model",
            "intermediate_size",
            "ffn_dim",
            "num_hidden_layers",
            "n_layer",
            "num_layers",
            "n_layers",
            "num_attention_heads",
            "num_local_experts",
        ];
        SHAPES.contains(&self.key)
    }
}

/// The spellings of a key, the current one first, and its value.
type Entry = (&'static [&'static str], Silent);

#[derive(Clone, Copy)]
enum Silent {
    Size(u64),
    Number(f64),
    Text(&'static str),
}

impl From<Silent> for Value {
    fn from(silent: Silent) -> Self {
        match silent {
            Silent::Size(size) => size.into(),
            Silent::Number(number) => number.into(),
            Silent::Text(text) => text.into(),
        }
    }
}

use Silent::{Number, Size, Text};

const VOCABULARY: &[&str] = &["vocab_size"];
const WIDTH: &[&str] = &["hidden_size"];
const MIDDLE: &[&str] = &["intermediate_size"];
const LAYERS: &[&str] = &["num_hidden_layers"];
const HEADS: &[&str] = &["num_attention_heads"];
const KV_HEADS: &[&str] = &["num_key_value_heads"];
const POSITIONS: &[&str] = &["max_position_embeddings"];
const EPS: &[&str] = &["rms_norm_eps"];
const ACTIVATION: &[&str] = &["hidden_act"];
const PADDING: &[&str] = &["pad_token_id"];

fn of(family: Family) -> &'static [Entry] {
    match family {
        Family::Llama => &[
            (VOCABULARY, Size(32_000)),
            (WIDTH, Size(4096)),
            (MIDDLE, Size(11_008)),
            (LAYERS, Size(32)),
            (HEADS, Size(32)),
            (POSITIONS, Size(2048)),
            (EPS, Number(1e-6)),
            (ACTIVATION, Text("silu")),
        ],
        Family::Mistral => &[
            (VOCABULARY, Size(32_000)),
            (WIDTH, Size(4096)),
            (MIDDLE, Size(14_336)),
            (LAYERS, Size(32)),
            (HEADS, Size(32)),
            (KV_HEADS, Size(8)),
            (POSITIONS, Size(131_072)),
            (EPS, Number(1e-6)),
            (ACTIVATION, Text("silu")),
        ],
        Family::Mixtral => &[
            (VOCABULARY, Size(32_000)),
            (WIDTH, Size(4096)),
            (MIDDLE, Size(14_336)),
            (LAYERS, Size(32)),
            (HEADS, Size(32)),
            (KV_HEADS, Size(8)),
            (POSITIONS, Size(131_072)),
            (EPS, Number(1e-5)),
            (ACTIVATION, Text("silu")),
            (&["num_local_experts", "num_experts"], Size(8)),
            (&["num_experts_per_tok"], Size(2)),
        ],
        Family::Gemma => &[
            (VOCABULARY, Size(256_000)),
            (WIDTH, Size(3072)),
            (MIDDLE, Size(24_576)),
            (LAYERS, Size(28)),
            (HEADS, Size(16)),
            (KV_HEADS, Size(16)),
            (POSITIONS, Size(8192)),
            (EPS, Number(1e-6)),
            (PADDING, Size(0)),
        ],
        Family::Gemma2 => &[
            (VOCABULARY, Size(256_000)),
            (WIDTH, Size(2304)),
            (MIDDLE, Size(9216)),
            (LAYERS, Size(26)),
            (HEADS, Size(8)),
            (KV_HEADS, Size(4)),
            (POSITIONS, Size(8192)),
            (EPS, Number(1e-6)),
            (&["hidden_activation"], Text("gelu_pytorch_tanh")),
            (PADDING, Size(0)),
        ],
        Family::Gemma3 => &[
            (VOCABULARY, Size(262_208)),
            (WIDTH, Size(2304)),
            (MIDDLE, Size(9216)),
            (LAYERS, Size(26)),
            (HEADS, Size(8)),
            (KV_HEADS, Size(4)),
            (POSITIONS, Size(131_072)),
            (EPS, Number(1e-6)),
            (&["hidden_activation"], Text("gelu_pytorch_tanh")),
            (PADDING, Size(0)),
        ],
        Family::Falcon => &[
            (VOCABULARY, Size(65_024)),
            (&["hidden_size", "n_embed"], Size(4544)),
            (&["num_hidden_layers", "n_layer"], Size(32)),
        ],
        Family::GptNeox => &[
            (VOCABULARY, Size(50_432)),
            (WIDTH, Size(6144)),
            (MIDDLE, Size(24_576)),
            (LAYERS, Size(44)),
            (ACTIVATION, Text("gelu")),
        ],
        Family::GptJ => &[
            (VOCABULARY, Size(50_400)),
            (&["n_embd", "hidden_size"], Size(4096)),
            (&["n_layer", "num_hidden_layers"], Size(28)),
            (&["rotary_dim"], Size(64)),
            (&["activation_function"], Text("gelu_new")),
        ],
        Family::GptNeo => &[
            (VOCABULARY, Size(50_257)),
            (WIDTH, Size(2048)),
            (&["num_layers", "num_hidden_layers"], Size(24)),
            (&["activation_function"], Text("gelu_new")),
        ],
        Family::Opt => &[
            (VOCABULARY, Size(50_272)),
            (WIDTH, Size(768)),
            (&["ffn_dim"], Size(3072)),
            (LAYERS, Size(12)),
            (&["activation_function"], Text("relu")),
            (PADDING, Size(1)),
        ],
        Family::Bloom => &[
            (VOCABULARY, Size(250_880)),
            (&["hidden_size", "n_embed"], Size(64)),
            (&["n_layer", "num_hidden_layers"], Size(2)),
        ],
        Family::Qwen2 | Family::Qwen3 => &[
            (VOCABULARY, Size(151_936)),
            (WIDTH, Size(4096)),
            (MIDDLE, Size(22_016)),
            (LAYERS, Size(32)),
            (HEADS, Size(32)),
            (KV_HEADS, Size(32)),
            (POSITIONS, Size(32_768)),
            (EPS, Number(1e-6)),
            (ACTIVATION, Text("silu")),
        ],
        Family::Phi => &[
            (VOCABULARY, Size(51_200)),
            (WIDTH, Size(2048)),
            (MIDDLE, Size(8192)),
            (LAYERS, Size(24)),
            (ACTIVATION, Text("gelu_new")),
        ],
        Family::Phi3 => &[
            (VOCABULARY, Size(32_064)),
            (WIDTH, Size(3072)),
            (MIDDLE, Size(8192)),
            (LAYERS, Size(32)),
            (POSITIONS, Size(4096)),
            (EPS, Number(1e-5)),
            (ACTIVATION, Text("silu")),
            (PADDING, Size(32_000)),
        ],
        Family::Olmo2 => &[
            (VOCABULARY, Size(50_304)),
            (WIDTH, Size(4096)),
            (MIDDLE, Size(11_008)),
            (LAYERS, Size(32)),
            (POSITIONS, Size(2048)),
            (EPS, Number(1e-5)),
            (ACTIVATION, Text("silu")),
            (PADDING, Size(1)),
        ],
        Family::SmolLm3 => &[
            (VOCABULARY, Size(128_256)),
            (WIDTH, Size(2048)),
            (MIDDLE, Size(11_008)),
            (LAYERS, Size(36)),
            (KV_HEADS, Size(4)),
            (POSITIONS, Size(32_768)),
            (EPS, Number(1e-6)),
            (ACTIVATION, Text("silu")),
            (PADDING, Size(128_004)),
        ],
        Family::Gpt2 => &[
            (VOCABULARY, Size(50_257)),
            (&["n_embd", "hidden_size"], Size(768)),
            (&["n_layer", "num_hidden_layers"], Size(12)),
            (&["n_positions", "max_position_embeddings"], Size(1024)),
            (&["activation_function"], Text("gelu_new")),
        ],
        Family::Mpt => &[
            (VOCABULARY, Size(50_368)),
            (&["d_model", "hidden_size"], Size(2048)),
            (&["n_layers", "num_hidden_layers"], Size(24)),
        ],
        // Its file says what its towers take.
        Family::Clip => &[],
    }
}

/// The width of a head where the reference does not derive it from the number of heads.
fn has_own_head_width(family: Family, config: &HfConfig) -> bool {
    matches!(family, Family::Gemma | Family::Gemma2 | Family::Gemma3 | Family::Qwen3)
        || config.optional_size("head_dim").is_ok_and(|width| width.is_some())
}

/// The configuration with the reference's values for keys that it lacks, and these values.
pub(crate) fn completed(family: Family, config: &HfConfig) -> (HfConfig, Vec<Taken>) {
    let mut complete = config.clone();
    let mut taken = vec![];
    for (spellings, silent) in of(family) {
        if spellings.iter().any(|key| config.says(key)) {
            continue;
        }
        let key = spellings[0];
        let size = |key: &str| complete.optional_size(key).ok().flatten();
        let fits = match (key, *silent) {
            ("num_attention_heads", _) => has_own_head_width(family, config),
            // As many as there are heads where the default would not divide them.
            ("num_key_value_heads", Size(count)) => {
                size("num_attention_heads").is_some_and(|heads| heads.is_multiple_of(count as usize))
            }
            // A row of the table; in a smaller one there is none.
            ("pad_token_id", Size(id)) => size("vocab_size").is_some_and(|rows| (id as usize) < rows),
            _ => true,
        };
        if fits {
            let value = Value::from(*silent);
            complete.set(key, value.clone());
            taken.push(Taken { key, value });
        }
    }
    (complete, taken)
}

/// What to tell a user of the values that no file states.
pub(crate) fn notes(family: Family, config: &HfConfig) -> Vec<String> {
    let (_, mut taken) = completed(family, config);
    // Of no consequence but for the gradient of one row.
    taken.retain(|taken| taken.key != "pad_token_id");
    if taken.is_empty() {
        return vec![];
    }
    let values: Vec<String> = taken.iter().map(|Taken { key, value }| format!("{key} = {value}")).collect();
    let name = family.name();
    vec![format!("config.json lacks keys, for which transformers' values for {name} are taken: {}", values.join(", "))]
}

/// The error that keys or weights do not fit a size that no file states, if there is such a size; otherwise `error`.
pub(crate) fn explain(family: Family, config: &HfConfig, error: ModelError) -> ModelError {
    let (_, taken) = completed(family, config);
    match taken.into_iter().find(Taken::is_shape) {
        Some(Taken { key, value }) => {
            let nearest = config.nearest(key);
            let found = format!(
                "nothing{nearest}, and {value}, which transformers takes then, does not fit the other keys and the weights"
            );
            config.wrong(key, "a size", found)
        }
        None => error,
    }
}

/// Error: a size that no file states. Weights show whether transformers' value is meant, and new weights cannot.
pub(crate) fn refuse_shapes(family: Family, config: &HfConfig) -> Result<(), ModelError> {
    let (_, taken) = completed(family, config);
    match taken.into_iter().find(Taken::is_shape) {
        Some(Taken { key, .. }) => Err(config.wrong(key, "a size", format!("nothing{}", config.nearest(key)))),
        None => Ok(()),
    }
}
