//! What a model's `generation_config.json` asks for and is not done here: [`Asked`].
//!
//! transformers generates by these values unless it is told otherwise. Here an answer is greedy unless the command says
//! otherwise, so a value that would change the text is named.

use std::path::Path;

use serde_json::{Map, Value};

const FILE: &str = "generation_config.json";
/// Longest value that is shown, in characters.
const SHOWN: usize = 40;

/// A key that transformers would follow, and the flag that does the same.
#[derive(Debug, Clone, PartialEq)]
struct Ask {
    key: String,
    value: Value,
    flag: Option<&'static str>,
    /// The flag with the value; absent where another key's flag says it.
    same: Option<String>,
}

/// The keys of a `generation_config.json` that would change an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    asks: Vec<Ask>,
}

impl Asked {
    /// Reads the file of a model folder. One that is missing or not JSON asks for nothing.
    pub fn of(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        let config: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
        Self::of_config(&config)
    }

    fn of_config(config: &Map<String, Value>) -> Self {
        let samples = config.get("do_sample") == Some(&Value::Bool(true));
        let asks = config.iter().filter_map(|(key, value)| {
            let flag = ask(key, value, samples)?;
            let same = match (key.as_str(), value) {
                ("do_sample", _) if config.contains_key("temperature") => None,
                ("do_sample", _) => Some("--temperature 1".to_string()),
                ("stop_strings", Value::Array(texts)) => {
                    Some(texts.iter().map(|text| format!("--stop {text}")).collect::<Vec<_>>().join(" "))
                }
                _ => flag.map(|flag| format!("{flag} {value}")),
            };
            Some(Ask { key: key.clone(), value: value.clone(), flag, same })
        });
        Self { asks: asks.collect() }
    }

    /// A note for the user, without what `given`, flags such as `--top-p`, has decided.
    pub fn note(&self, given: &[&str]) -> Option<String> {
        let open: Vec<&Ask> =
            self.asks.iter().filter(|ask| ask.flag.is_none_or(|flag| !given.contains(&flag))).collect();
        if open.is_empty() {
            return None;
        }
        let named: Vec<String> = open.iter().map(|ask| format!("{} = {}", ask.key, shown(&ask.value))).collect();
        let flags: Vec<&str> = open.iter().filter_map(|ask| ask.same.as_deref()).collect();
        let same = if flags.is_empty() { String::new() } else { format!("; for the same, give {}", flags.join(" ")) };
        Some(format!("{FILE} asks for {}: not done here unless you ask for it{same}", named.join(", ")))
    }
}

/// The flag that does what a key asks for, if the value would change an answer. `samples`: the file asks for draws.
fn ask(key: &str, value: &Value, samples: bool) -> Option<Option<&'static str>> {
    let number = value.as_f64();
    let listed =
        value.as_array().is_some_and(|list| !list.is_empty()) || value.as_object().is_some_and(|map| !map.is_empty());
    let differs = |neutral: f64| number.is_some_and(|number| number != neutral);
    let (counts, flag) = match key {
        // What transformers draws by, if it draws at all; greedy decoding warns and goes on without.
        "temperature" => (samples && number.is_some(), Some("--temperature")),
        "top_k" => (samples && differs(0.0), Some("--top-k")),
        "top_p" => (samples && differs(1.0), Some("--top-p")),
        "min_p" => (samples && differs(0.0), Some("--min-p")),
        "typical_p" => (samples && differs(1.0), None),
        "epsilon_cutoff" | "eta_cutoff" => (samples && differs(0.0), None),
        "top_h" => (samples && number.is_some(), None),
        "do_sample" => (samples, Some("--temperature")),
        "repetition_penalty" => (differs(1.0), Some("--repetition-penalty")),
        "encoder_repetition_penalty" | "guidance_scale" => (differs(1.0), None),
        "num_beams" | "num_beam_groups" => (differs(1.0), None),
        "no_repeat_ngram_size" | "encoder_no_repeat_ngram_size" | "min_length" | "min_new_tokens" | "penalty_alpha" => {
            (differs(0.0), None)
        }
        "forced_bos_token_id" | "forced_eos_token_id" => (!value.is_null(), None),
        "suppress_tokens"
        | "begin_suppress_tokens"
        | "bad_words_ids"
        | "forced_decoder_ids"
        | "sequence_bias"
        | "exponential_decay_length_penalty"
        | "force_words_ids"
        | "constraints" => (listed, None),
        "stop_strings" => (listed || value.is_string(), Some("--stop")),
        "watermarking_config" => (!value.is_null(), None),
        _ => (false, None),
    };
    counts.then_some(flag)
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn note(config: &Value, given: &[&str]) -> Option<String> {
        Asked::of_config(config.as_object().unwrap()).note(given)
    }

    #[test]
    fn what_transformers_would_do_otherwise_is_named_with_the_flag() {
        let sampled = json!({"do_sample": true, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [1, 2]});
        let text = note(&sampled, &[]).unwrap();
        assert!(text.contains("temperature = 0.6, top_p = 0.9"), "{text}");
        assert!(text.ends_with("give --temperature 0.6 --top-p 0.9"), "{text}");
        let text = note(&sampled, &["--temperature"]).unwrap();
        assert!(text.contains("asks for top_p = 0.9:") && !text.contains("do_sample"), "{text}");
        assert_eq!(note(&sampled, &["--temperature", "--top-p"]), None);
        let penalised = json!({"repetition_penalty": 1.1, "suppress_tokens": [1, 2], "forced_bos_token_id": 3});
        let text = note(&penalised, &[]).unwrap();
        assert!(text.contains("repetition_penalty = 1.1, suppress_tokens = [1,2], forced_bos_token_id = 3"), "{text}");
        assert!(text.ends_with("for the same, give --repetition-penalty 1.1"), "{text}");
    }

    #[test]
    fn what_changes_nothing_is_not_named() {
        for config in [
            json!({}),
            json!({"eos_token_id": 0, "pad_token_id": 1, "max_length": 20, "transformers_version": "5.0"}),
            json!({"temperature": 0.6, "top_p": 0.9, "top_k": 50}),
            json!({"do_sample": false, "repetition_penalty": 1.0, "num_beams": 1, "suppress_tokens": null}),
            json!({"bad_words_ids": [], "no_repeat_ngram_size": 0, "forced_eos_token_id": null}),
        ] {
            assert_eq!(note(&config, &[]), None, "{config}");
        }
    }
}
