//! Special tokens: [`SpecialTokens`] makes the tokens that the files name special, and reads the ids that end a
//! generation from `generation_config.json` and `config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::json_file::object;
use super::named::NamedTokens;
use crate::error::DataError;

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
    /// Whether BOS and EOS stand around plain text; `None`: the post-processor says.
    pub(crate) explicit: Option<(bool, bool)>,
}

/// Values for what neither `tokenizer_config.json` nor `special_tokens_map.json` sets.
#[derive(Debug, Default)]
pub(super) struct Defaults {
    /// Names of special tokens and their texts.
    pub tokens: Vec<(&'static str, String)>,
    /// What says which tokens stand around plain text.
    pub around: Around,
}

/// What says which tokens stand around plain text.
#[derive(Debug, Default, Clone, Copy)]
pub(super) enum Around {
    /// The post-processor of `tokenizer.json`, whatever `add_bos_token` and `add_eos_token` say: transformers 5 does
    /// not read them beside such a file.
    #[default]
    PostProcessor,
    /// `add_bos_token` and `add_eos_token`; where neither is set, these.
    Tokens { bos: bool, eos: bool },
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
        let tokens = NamedTokens::load(folder, &config)?;
        let mut special = Self::default();
        let defaults_of_class =
            defaults.tokens.iter().filter(|(name, text)| !tokens.mentions(name) && inner.token_to_id(text).is_some());
        let defaults_of_class: Vec<(String, AddedToken)> =
            defaults_of_class.map(|(name, text)| (name.to_string(), AddedToken::from(text.clone(), true))).collect();
        let named = tokens.named.iter().chain(&defaults_of_class);
        for (_, token) in named.clone() {
            add(inner, token);
        }
        for token in &tokens.extra {
            add(inner, token);
        }
        special.texts = named.map(|(name, token)| (name.clone(), token.content.clone())).collect();
        let id = |name: &str| inner.token_to_id(special.texts.get(name)?);
        (special.bos_id, special.eos_id, special.pad_id) = (id("bos_token"), id("eos_token"), id("pad_token"));
        let flag = |name: &str| config.get(name).and_then(Value::as_bool);
        special.explicit = match (defaults.around, flag("add_bos_token"), flag("add_eos_token")) {
            (Around::PostProcessor, ..) => None,
            (Around::Tokens { bos, eos }, None, None) => Some((bos, eos)),
            (Around::Tokens { .. }, bos, eos) => Some((bos.unwrap_or(false), eos.unwrap_or(false))),
        };
        inner.set_encode_special_tokens(flag("split_special_tokens").unwrap_or(false));
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

/// Makes a token special, as transformers does, so that it is never split into letters. A token that the vocabulary
/// lacks gets the next id; whether the model has a row for it is checked where rows meet the model.
fn add(inner: &mut tokenizers::Tokenizer, token: &AddedToken) {
    if !inner.get_added_tokens_decoder().values().any(|added| added.content == token.content) {
        inner.add_special_tokens(std::slice::from_ref(token));
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

/// The ids in `eos_token_id`, which is a number, a list, or absent.
fn eos_ids(config: &Map<String, Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get("eos_token_id") {
        Some(Value::Array(items)) => items.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
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
