//! Named special tokens: [`NamedTokens`] reads what the files beside a vocabulary say by transformers' rules
//! (`PreTrainedTokenizerBase._from_pretrained` of version 5). `special_tokens_map.json` counts only where
//! `tokenizer_config.json` has no `added_tokens_decoder`, and then before it.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::json_file::object;
use crate::error::DataError;

/// The names of special tokens in transformers; templates see them as variables.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The special tokens that files name.
#[derive(Debug, Default)]
pub(super) struct NamedTokens {
    /// Name and token: the usual ones in the order of transformers, then a model's own (`image_token`).
    pub named: Vec<(String, AddedToken)>,
    /// Special tokens without a name.
    pub extra: Vec<AddedToken>,
    /// Names that the files mention, even as null.
    mentioned: HashSet<String>,
}

impl NamedTokens {
    /// Reads the names of a folder; `config` is its `tokenizer_config.json`.
    pub(super) fn load(folder: &Path, config: &Map<String, Value>) -> Result<Self, DataError> {
        let map = match config.contains_key("added_tokens_decoder") {
            true => Map::new(),
            false => object(folder, "special_tokens_map.json")?,
        };
        let mut tokens = Self::default();
        for name in NAMES {
            let Some(value) = map.get(name).or_else(|| config.get(name)) else { continue };
            tokens.mentioned.insert(name.to_string());
            tokens.named.extend(added_token(Some(value)).map(|token| (name.to_string(), token)));
        }
        let own = |(name, value): (&String, &Value)| {
            let is_own = name.ends_with("_token") && !NAMES.contains(&name.as_str());
            added_token(Some(value)).filter(|_| is_own).map(|token| (name.clone(), token))
        };
        tokens.named.extend(config.iter().filter_map(own));
        tokens.named.extend(map.iter().filter_map(own));
        let key = |file: &Map<String, Value>, name: &str| file.get(name).filter(|value| holds_tokens(value)).cloned();
        let unnamed = ["extra_special_tokens", "additional_special_tokens"];
        let in_config = unnamed.iter().find_map(|name| key(config, name));
        let beside = match unnamed.iter().any(|name| config.contains_key(*name)) {
            true => key(&map, unnamed[0]),
            false => unnamed.iter().find_map(|name| key(&map, name)),
        };
        for value in [in_config, beside].into_iter().flatten() {
            match value {
                Value::Object(named) => tokens
                    .named
                    .extend(named.iter().filter_map(|(name, value)| Some((name.clone(), added_token(Some(value))?)))),
                Value::Array(list) => tokens.extra.extend(list.iter().filter_map(|token| added_token(Some(token)))),
                _ => {}
            }
        }
        Ok(tokens)
    }

    /// Whether the files mention a name, be it with null.
    pub(super) fn mentions(&self, name: &str) -> bool {
        self.mentioned.contains(name)
    }

    /// The texts of all tokens.
    pub(super) fn texts(&self) -> HashSet<&str> {
        let named = self.named.iter().map(|(_, token)| token);
        named.chain(&self.extra).map(|token| token.content.as_str()).collect()
    }
}

fn holds_tokens(value: &Value) -> bool {
    match value {
        Value::Array(list) => !list.is_empty(),
        Value::Object(named) => !named.is_empty(),
        _ => false,
    }
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
