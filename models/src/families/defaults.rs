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

use crate::error::ModelError;
use crate::hf_config::HfConfig;

/// A value that stands in no file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Taken {
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
pub(super) type Entry = (&'static [&'static str], Silent);

/// The value of an absent key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Silent {
    /// A size, count or id.
    Size(u64),
    /// A number of heads, taken only where the file states the width of one.
    Heads(u64),
    /// A number.
    Number(f64),
    /// A name.
    Text(&'static str),
}

impl From<Silent> for Value {
    fn from(silent: Silent) -> Self {
        match silent {
            Silent::Size(size) | Silent::Heads(size) => size.into(),
            Silent::Number(number) => number.into(),
            Silent::Text(text) => text.into(),
        }
    }
}

/// The configuration with the reference's values for keys that it lacks, and these values.
pub(super) fn completed(entries: &[Entry], config: &HfConfig) -> (HfConfig, Vec<Taken>) {
    let mut complete = config.clone();
    let mut taken = vec![];
    for (spellings, silent) in entries {
        if spellings.iter().any(|key| config.says(key)) {
            continue;
        }
        let key = spellings[0];
        let size = |key: &str| complete.optional_size(key).ok().flatten();
        let fits = match (key, *silent) {
            (_, Silent::Heads(_)) => size("head_dim").is_some(),
            // As many as there are heads where the default would not divide them.
            ("num_key_value_heads", Silent::Size(count)) => {
                size("num_attention_heads").is_some_and(|heads| heads.is_multiple_of(count as usize))
            }
            // A row of the table; in a smaller one there is none.
            ("pad_token_id", Silent::Size(id)) => size("vocab_size").is_some_and(|rows| (id as usize) < rows),
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
pub(super) fn notes(entries: &[Entry], config: &HfConfig) -> Vec<String> {
    let (_, mut taken) = completed(entries, config);
    // Of no consequence but for the gradient of one row.
    taken.retain(|taken| taken.key != "pad_token_id");
    if taken.is_empty() {
        return vec![];
    }
    let values: Vec<String> = taken.iter().map(|Taken { key, value }| format!("{key} = {value}")).collect();
    let name = config.optional_string("model_type").ok().flatten().unwrap_or_default();
    vec![format!("config.json lacks keys, for which transformers' values for {name} are taken: {}", values.join(", "))]
}

/// The error that keys or weights do not fit a size that no file states, if there is such a size; otherwise `error`.
pub(super) fn explain(entries: &[Entry], config: &HfConfig, error: ModelError) -> ModelError {
    let (_, taken) = completed(entries, config);
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
pub(super) fn refuse_shapes(entries: &[Entry], config: &HfConfig) -> Result<(), ModelError> {
    let (_, taken) = completed(entries, config);
    match taken.into_iter().find(Taken::is_shape) {
        Some(Taken { key, .. }) => Err(config.wrong(key, "a size", format!("nothing{}", config.nearest(key)))),
        None => Ok(()),
    }
}
