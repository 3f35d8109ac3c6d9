//! Chooses which files of a repository to fetch as a model: [`Selection::of`].
//!
//! Configuration, tokenizer and chat template are chosen by name, and then one set of weights, because many
//! repositories hold the same weights several times (`consolidated.safetensors`, `onnx/`, `original/`,
//! pickles). The first that is there is taken: `model.safetensors`, the shards of its index, an adapter (as safetensors, or as PyTorch saves it),
//! `pytorch_model.bin`, the shards of its index, any other safetensors files. Only the top folder and the
//! folder of named chat templates are read; other folders hold other formats.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::error::HubError;

const SUPPORTING: &[&str] = &[
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "adapter_config.json",
];
/// The folder of named chat templates.
pub(crate) const NAMED_TEMPLATES: &str = "additional_chat_templates";
const SUPPORTING_PREFIXES: &[&str] = &["tokenizer", "vocab."];
const MODEL: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: &str = "adapter_model.safetensors";
const ADAPTER_PICKLE: &str = "adapter_model.bin";
const PICKLE: &str = "pytorch_model.bin";
const PICKLE_INDEX: &str = "pytorch_model.bin.index.json";

/// The files of a repository to fetch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Everything but the weights.
    pub supporting: Vec<String>,
    /// One set of weights.
    pub weights: Weights,
}

/// How the weights are stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    /// In these files.
    Files(Vec<String>),
    /// In the files that this index names.
    Indexed(&'static str),
}

impl Selection {
    /// Chooses among the paths of repository `id`.
    ///
    /// # Errors
    /// No `config.json` (or `adapter_config.json`), or no weights in a format that is read.
    pub fn of(id: &str, paths: &[&str]) -> Result<Self, HubError> {
        let names: Vec<&str> = paths.iter().copied().filter(|path| !path.contains('/')).collect();
        let names = names.as_slice();
        let all: BTreeSet<&str> = names.iter().copied().collect();
        if !all.contains("config.json") && !all.contains("adapter_config.json") {
            return Err(HubError::NotAModel { id: id.to_string(), missing: "config.json", found: list(names) });
        }
        let is_supporting = |name: &&str| {
            SUPPORTING.contains(name) || SUPPORTING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        let safetensors = |name: &&str| name.ends_with(".safetensors");
        let weights = if all.contains(MODEL) {
            Weights::Files(vec![MODEL.to_string()])
        } else if all.contains(INDEX) {
            Weights::Indexed(INDEX)
        } else if all.contains(ADAPTER) {
            Weights::Files(vec![ADAPTER.to_string()])
        } else if all.contains(ADAPTER_PICKLE) {
            Weights::Files(vec![ADAPTER_PICKLE.to_string()])
        } else if all.contains(PICKLE) {
            Weights::Files(vec![PICKLE.to_string()])
        } else if all.contains(PICKLE_INDEX) {
            Weights::Indexed(PICKLE_INDEX)
        } else {
            Weights::Files(all.iter().filter(|name| safetensors(name)).map(|name| name.to_string()).collect())
        };
        if weights == Weights::Files(Vec::new()) {
            let missing = "a .safetensors file or pytorch_model.bin";
            return Err(HubError::NotAModel { id: id.to_string(), missing, found: list(names) });
        }
        let is_template = |path: &&str| match path.split_once('/') {
            Some((folder, name)) => folder == NAMED_TEMPLATES && !name.contains('/') && name.ends_with(".jinja"),
            None => false,
        };
        let supporting = all.iter().filter(|name| is_supporting(name) && !safetensors(name));
        let templates = paths.iter().filter(|path| is_template(path));
        Ok(Self { supporting: supporting.chain(templates).map(|name| name.to_string()).collect(), weights })
    }
}

/// The shard files that the index file `index`, whose content is `text`, names, each once.
///
/// # Errors
/// The reason why `text` is not an index, to end a sentence.
pub(crate) fn shards(index: &str, text: &str) -> Result<Vec<String>, String> {
    let extension = if index == PICKLE_INDEX { ".bin" } else { ".safetensors" };
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if shards.is_empty() {
        return Err("it names no file".to_string());
    }
    match shards.iter().find(|name| !is_plain_name(name) || !name.ends_with(extension)) {
        Some(name) => Err(format!("it names `{}`, which is no plain {extension} file name", name.escape_debug())),
        None => Ok(shards.into_iter().collect()),
    }
}

/// Whether `name` is a plain file name: no folder, no drive, no character that a URL escapes.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+' | b'=');
    !name.is_empty() && name.len() <= 200 && name.bytes().all(allowed) && !name.starts_with('.') && !name.ends_with('.')
}

/// Whether `name` can be the name of a file or folder on this system. Data files may have spaces and letters of any
/// script in their names.
pub(crate) fn is_safe_name(name: &str) -> bool {
    let forbidden = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    !name.is_empty()
        && name.len() <= 200
        && !name.contains(forbidden)
        && !name.starts_with(['.', ' '])
        && !name.ends_with(['.', ' '])
}

/// `path` with the escapes it needs in a URL.
pub(crate) fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b'+' | b'=' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn list(names: &[&str]) -> String {
    match names {
        [] => "nothing".to_string(),
        names if names.len() > 8 => format!("{}, ...", names[..8].join(", ")),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_of_weights_is_chosen() {
        let weights = |names: &[&str]| Selection::of("a/b", names).unwrap().weights;
        let files = |names: &[&str]| Weights::Files(names.iter().map(|name| name.to_string()).collect());
        assert_eq!(
            weights(&["config.json", "model.safetensors", "consolidated.safetensors", "model.fp16.safetensors"]),
            files(&["model.safetensors"])
        );
        assert_eq!(
            weights(&["config.json", "consolidated.safetensors", "model-00001-of-00002.safetensors", INDEX]),
            Weights::Indexed(INDEX)
        );
        assert_eq!(
            weights(&["adapter_config.json", "adapter_model.safetensors"]),
            files(&["adapter_model.safetensors"])
        );
        assert_eq!(
            weights(&["adapter_config.json", "adapter_model.bin", "training_args.bin"]),
            files(&["adapter_model.bin"])
        );
        assert_eq!(
            weights(&["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors"]),
            files(&["adapter_model.safetensors"])
        );
        assert_eq!(weights(&["config.json", "weights.safetensors"]), files(&["weights.safetensors"]));
        assert_eq!(
            weights(&["config.json", "consolidated.safetensors", "pytorch_model.bin", PICKLE_INDEX]),
            files(&["pytorch_model.bin"])
        );
        assert_eq!(
            weights(&["config.json", "pytorch_model-00001-of-00002.bin", "training_args.bin", PICKLE_INDEX]),
            Weights::Indexed(PICKLE_INDEX)
        );
    }

    #[test]
    fn other_formats_are_left_alone() {
        let names = [
            "README.md",
            "config.json",
            "model.gguf",
            "model.safetensors",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "tokenizer.json",
            "tokenizer_config.json",
            "training_args.bin",
            "vocab.json",
            "chat_template.jinja",
            "additional_chat_templates/tool_use.jinja",
            "additional_chat_templates/README.md",
            "additional_chat_templates/old/tool_use.jinja",
            "original/tokenizer.json",
        ];
        assert_eq!(
            Selection::of("a/b", &names).unwrap().supporting,
            [
                "chat_template.jinja",
                "config.json",
                "preprocessor_config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "vocab.json",
                "additional_chat_templates/tool_use.jinja"
            ]
        );
    }

    #[test]
    fn a_repository_without_weights_says_what_it_has() {
        let error = Selection::of("a/b", &["config.json", "tf_model.h5"]).unwrap_err().to_string();
        for says in ["tf_model.h5", ".safetensors", "pytorch_model.bin"] {
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn shard_names_with_a_path_are_refused() {
        let index = |name: &str| format!(r#"{{"weight_map": {{"w": {name:?}}}}}"#);
        assert_eq!(shards(INDEX, &index("model-1.safetensors")).unwrap(), ["model-1.safetensors"]);
        assert_eq!(shards(PICKLE_INDEX, &index("pytorch_model-1.bin")).unwrap(), ["pytorch_model-1.bin"]);
        assert!(shards(PICKLE_INDEX, &index("model-1.safetensors")).is_err());
        for name in [
            "../m.safetensors",
            "/m.safetensors",
            "a/m.safetensors",
            "c:m.safetensors",
            "a\\m.safetensors",
            "m.bin",
            "",
        ] {
            assert!(shards(INDEX, &index(name)).is_err(), "{name:?} was accepted");
        }
        assert!(shards(INDEX, "{").is_err() && shards(INDEX, r#"{"weight_map": {}}"#).is_err());
    }
}
