//! Added tokens: [`AddedTokens`] reads them from `added_tokens_decoder` of `tokenizer_config.json`, or
//! `added_tokens.json`.
//!
//! The files state the ids of added tokens. The vocabulary also decides them, since tokens that it lacks are appended
//! to it. The two must agree, or the model would be trained on other tokens than the row holds.

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::json_file::object;
use super::named::{NamedTokens, added_token};
use crate::error::DataError;

/// The file that states ids but no properties of tokens.
const FILE: &str = "added_tokens.json";

/// Added tokens with their ids, sorted by id.
#[derive(Debug, Default)]
pub(super) struct AddedTokens {
    declared: Vec<(u32, AddedToken)>,
    file: &'static str,
}

impl AddedTokens {
    /// Reads the added tokens of a folder; `config` is its `tokenizer_config.json`.
    pub(super) fn load(folder: &Path, config: &Map<String, Value>) -> Result<Self, DataError> {
        let mut added = Self { declared: Vec::new(), file: "tokenizer_config.json" };
        let id = |id: u64| u32::try_from(id).ok();
        if let Some(Value::Object(tokens)) = config.get("added_tokens_decoder") {
            for (key, token) in tokens {
                let (Some(id), Some(read)) = (key.parse().ok().and_then(id), added_token(Some(token))) else {
                    return Err(added.wrong(folder, format!("`added_tokens_decoder` has no token at {key:?}: {token}")));
                };
                let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
                added.declared.push((id, AddedToken { special, ..read }));
            }
        } else {
            added.file = FILE;
            let tokens = NamedTokens::load(folder, config)?;
            let special = tokens.texts();
            for (text, number) in object(folder, FILE)? {
                let Some(id) = number.as_u64().and_then(id) else {
                    return Err(added.wrong(folder, format!("expected the id of {text:?}, found {number}")));
                };
                let special = special.contains(text.as_str());
                added.declared.push((id, AddedToken::from(text, special)));
            }
        }
        added.declared.sort_by_key(|(id, _)| *id);
        Ok(added)
    }

    /// The text that the files give the token with that id; `None` if they do not declare it.
    pub(super) fn name_of(&self, id: usize) -> Option<&str> {
        let id = u32::try_from(id).ok()?;
        let at = self.declared.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.declared[at].1.content)
    }

    /// Adds all tokens to a tokenizer, and after them `others`, which the vocabulary already holds.
    pub(super) fn add_to(
        self,
        tokenizer: &mut tokenizers::Tokenizer,
        others: Vec<AddedToken>,
        folder: &Path,
    ) -> Result<(), DataError> {
        let mut seen = HashSet::new();
        let tokens: Vec<AddedToken> = self
            .declared
            .iter()
            .map(|(_, token)| token.clone())
            .chain(others)
            .filter(|token| seen.insert(token.content.clone()))
            .collect();
        tokenizer.add_tokens(&tokens);
        for (id, token) in &self.declared {
            match tokenizer.token_to_id(&token.content) {
                Some(found) if found == *id => {}
                found => {
                    let found = found.map_or("nothing".into(), |id| id.to_string());
                    return Err(self.wrong(
                        folder,
                        format!(
                            "the added token {:?} has the id {id}, but after the vocabulary beside it that would be \
                             {found}; the files are not of one model",
                            token.content
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Adds the tokens to the tokenizer of a `tokenizer.json`, as transformers does: those that it holds get the
    /// properties that are declared, the others the next ids in the order of the declared ones.
    pub(super) fn add_to_whole(&self, tokenizer: &mut tokenizers::Tokenizer) {
        let tokens: Vec<AddedToken> = self.declared.iter().map(|(_, token)| token.clone()).collect();
        tokenizer.add_tokens(&tokens);
    }

    fn wrong(&self, folder: &Path, why: String) -> DataError {
        DataError::Tokenizer { path: folder.join(self.file), why }
    }
}
