//! Special tokens: [`SpecialTokens`] reads the tokens named in `tokenizer_config.json` (or `special_tokens_map.json`),
//! and the ids that end a generation from `generation_config.json` and `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::DataError;

/// The names of special tokens in transformers; templates see them as variables.
pub(super) const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Special tokens by name, and their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecialTokens {
    /// The texts of `bos_token`, `eos_token` and so on: the variables that a chat template sees.
    pub texts: BTreeMap<String, String>,
    /// Id of the token that begins a text.
    pub bos_id: Option<u32>,
    /// Id of the token that ends a text.
    pub eos_id: Option<u32>,
    /// Id of the padding token; never used here to tell padding from text.
    pub pad_id: Option<u32>,
    /// All ids that end a generation, without repetition.
    pub eos_ids: Vec<u32>,
    /// `add_bos_token` and `add_eos_token`, where the configuration or the class of tokenizer sets them.
    pub(crate) explicit: Option<(bool, bool)>,
}

/// Values for what neither `tokenizer_config.json` nor `special_tokens_map.json` sets.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    /// Names of special tokens and their texts.
    pub tokens: Vec<(&'static str, String)>,
    /// Whether BOS and EOS are added around plain text; `None`: the post-processor decides.
    pub around: Option<(bool, bool)>,
}

impl SpecialTokens {
    /// Reads the optional files beside the vocabulary and makes the named tokens special in `inner`. `defaults` holds
    /// for what the files do not set.
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
            // As in transformers, so that a control token of the vocabulary is never split into letters. A token that
            // the vocabulary lacks would get an id for which the model has no embedding; it stays text.
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

    /// Bytes that change whenever one of the tokens changes.
    pub(super) fn fingerprint(&self) -> Vec<u8> {
        format!("{self:?}").into_bytes()
    }
}

/// The ids that end a generation by `generation_config.json` and `config.json`, without repetition. No tokenizer is
/// needed.
///
/// # Errors
/// A file that is not a JSON object.
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

/// A token, written as its text or as an object with properties.
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

/// The ids in `eos_token_id`, which is a number, a list, or absent.
fn eos_ids(config: &Map<String, Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get("eos_token_id") {
        Some(Value::Array(items)) => items.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The JSON object in a file of the folder; empty when there is no such file.
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
