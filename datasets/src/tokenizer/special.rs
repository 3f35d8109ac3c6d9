//! The special tokens of a model folder: named in `tokenizer_config.json` (or `special_tokens_map.json`), ids that end
//! a generation in `generation_config.json` and `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::DataError;

/// The names under which transformers knows special tokens; templates see them as variables.
pub(super) const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Special tokens by name, and their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecialTokens {
    /// `bos_token`, `eos_token`, ... and their texts: the variables a chat template sees.
    pub texts: BTreeMap<String, String>,
    /// Begins a text.
    pub bos_id: Option<u32>,
    /// Ends a text.
    pub eos_id: Option<u32>,
    /// Fills a batch elsewhere; never used here to tell padding from text.
    pub pad_id: Option<u32>,
    /// Every id that ends a generation, without repetition.
    pub eos_ids: Vec<u32>,
    /// `add_bos_token` and `add_eos_token`, where the configuration or the kind of tokenizer says anything about them.
    pub(crate) explicit: Option<(bool, bool)>,
}

/// What holds where neither `tokenizer_config.json` nor `special_tokens_map.json` says anything.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    /// Names of special tokens and their texts.
    pub tokens: Vec<(&'static str, String)>,
    /// Whether BOS and EOS are put around plain text; `None`: the post-processor knows.
    pub around: Option<(bool, bool)>,
}

impl SpecialTokens {
    /// Reads the files around the vocabulary, all of them optional, and makes the named tokens special in `inner`.
    /// `defaults` holds for what the files do not mention.
    pub(super) fn load(
        folder: &Path,
        inner: &mut tokenizers::Tokenizer,
        defaults: &Defaults,
    ) -> Result<Self, DataError> {
        let config = object(folder, "tokenizer_config.json")?;
        let map = object(folder, "special_tokens_map.json")?;
        let mut special = Self::default();
        for name in NAMES {
            let written = [&config, &map].into_iter().find_map(|file| added_token(file.get(name)));
            let mentioned = config.contains_key(name) || map.contains_key(name);
            let default = || {
                let (_, text) = defaults.tokens.iter().find(|(default, _)| !mentioned && *default == name)?;
                inner.token_to_id(text).map(|_| AddedToken::from(text.clone(), true))
            };
            let Some(token) = written.or_else(default) else {
                continue;
            };
            // As transformers does, so that a control token of the vocabulary is never read as letters. A token that
            // the vocabulary does not have would get an id the model has no row for; it stays text.
            let known = inner.get_added_tokens_decoder().values().any(|added| added.content == token.content);
            if !known && inner.token_to_id(&token.content).is_some() {
                inner.add_special_tokens(std::slice::from_ref(&token));
            }
            special.texts.insert(name.to_string(), token.content);
        }
        let id = |name: &str| inner.token_to_id(special.texts.get(name)?);
        (special.bos_id, special.eos_id, special.pad_id) = (id("bos_token"), id("eos_token"), id("pad_token"));
        let flag = |name: &str| config.get(name).and_then(Value::as_bool);
        special.explicit = match (flag("add_bos_token"), flag("add_eos_token")) {
            (None, None) => defaults.around,
            (bos, eos) => Some((bos.unwrap_or(false), eos.unwrap_or(false))),
        };
        special.eos_ids = end_ids(folder)?;
        if let Some(id) = special.eos_id.filter(|id| !special.eos_ids.contains(id)) {
            special.eos_ids.push(id);
        }
        if special.eos_id.is_none() && !special.texts.contains_key("eos_token") {
            special.eos_id = special.eos_ids.first().copied();
        }
        Ok(special)
    }

    /// Text of a named token.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(String::as_str)
    }

    /// Bytes that change whenever a token changes.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        format!("{self:?}").into_bytes()
    }
}

/// The ids that end a generation by `generation_config.json` and `config.json`, without repetition; these need no
/// tokenizer.
///
/// # Errors
/// A file that is no JSON object.
pub fn end_ids(folder: &Path) -> Result<Vec<u32>, DataError> {
    let mut found = Vec::new();
    for name in ["generation_config.json", "config.json"] {
        for id in eos_ids(&object(folder, name)?) {
            if !found.contains(&id) {
                found.push(id);
            }
        }
    }
    Ok(found)
}

/// A token written as its text or as an object with properties.
pub(super) fn added_token(value: Option<&Value>) -> Option<AddedToken> {
    match value? {
        Value::String(text) => Some(AddedToken::from(text.clone(), true)),
        Value::Object(object) => {
            let text = object.get("content")?.as_str()?;
            let flag = |name: &str| object.get(name).and_then(Value::as_bool).unwrap_or(false);
            Some(
                AddedToken::from(text.to_string(), true)
                    .lstrip(flag("lstrip"))
                    .rstrip(flag("rstrip"))
                    .single_word(flag("single_word"))
                    .normalized(flag("normalized")),
            )
        }
        _ => None,
    }
}

/// `eos_token_id`: a number, a list, or absent.
fn eos_ids(config: &Map<String, Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get("eos_token_id") {
        Some(Value::Array(items)) => items.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A JSON object file of the folder; empty when there is no such file.
pub(crate) fn object(folder: &Path, name: &str) -> Result<Map<String, Value>, DataError> {
    let path = folder.join(name);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(source) => return Err(DataError::Read { path, source }),
    };
    serde_json::from_slice(&bytes)
        .map_err(|problem| DataError::Tokenizer { path, why: format!("expected a JSON object: {problem}") })
}

#[cfg(test)]
mod tests {
    use crate::testing;
    use crate::tokenizer::Tokenizer;

    #[test]
    fn tokens_are_texts_or_objects_and_eos_ids_numbers_or_lists() {
        let dir = testing::tokenizer_folder(
            r#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "<|im_end|>", "pad_token": null}"#,
        );
        std::fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [2, 7]}"#).unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"eos_token_id": 7}"#).unwrap();
        let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
        let special = tokenizer.special();
        assert_eq!(special.text("bos_token"), Some("<s>"));
        assert_eq!(special.text("pad_token"), None);
        let end = tokenizer.token_to_id("<|im_end|>").unwrap();
        assert_eq!(special.eos_id, Some(end));
        assert!(special.eos_ids.starts_with(&[2, 7]) && special.eos_ids.contains(&end));
    }

    #[test]
    fn a_file_that_is_no_object_is_an_error_that_names_it() {
        let dir = testing::tokenizer_folder("[]");
        let error = Tokenizer::from_folder(dir.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer_config.json"), "{error}");
    }
}
