//! New tokens: [`extend`] writes a folder's tokenizer with tokens that it does not have.
//!
//! The files keep their form. New ids follow the old ones, as transformers gives them (`add_tokens`), and are written
//! where transformers reads them: into `tokenizer.json`, and into `added_tokens_decoder` where the configuration has one
//! or there is no `tokenizer.json`.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::AddedToken;

use super::Tokenizer;
use super::json_file::object;
use crate::error::DataError;

const JSON: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const DECLARED: &str = "added_tokens_decoder";

/// The files of a tokenizer in a model folder; not all of them are there.
pub const FILES: [&str; 7] =
    [JSON, CONFIG, "special_tokens_map.json", "added_tokens.json", "tokenizer.model", "vocab.json", "merges.txt"];

/// Tokens to be added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewTokens {
    /// Control tokens: they are left out when text is shown.
    pub special: Vec<String>,
    /// Words: they are text.
    pub words: Vec<String>,
}

/// A token that was asked for, and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedId {
    /// The token's text.
    pub token: String,
    /// Its id.
    pub id: u32,
    /// Whether the vocabulary lacked it.
    pub is_new: bool,
}

/// Copies the files of the tokenizer in `from` to `to`.
///
/// # Errors
/// Those of copying, with the path.
pub fn copy(from: &Path, to: &Path) -> Result<(), DataError> {
    for name in FILES {
        let (from, to) = (from.join(name), to.join(name));
        if from.is_file() {
            fs::copy(&from, &to).map_err(|source| DataError::Read { path: from, source })?;
        }
    }
    Ok(())
}

/// Writes the tokenizer in `from` with new tokens to `to`, which also gets the files that say what the tokenizer is of
/// (`config.json`, `generation_config.json`). Returns the ids of all tokens that were asked for, in their order.
///
/// # Errors
/// A folder without a tokenizer; a token that is empty or asked for twice; errors of writing.
pub fn extend(from: &Path, to: &Path, tokens: &NewTokens) -> Result<Vec<AddedId>, DataError> {
    let before = Tokenizer::from_folder(from)?;
    let refused = |why: String| DataError::Tokenizer { path: before.path.clone(), why };
    let asked: Vec<&String> = tokens.special.iter().chain(&tokens.words).collect();
    for (at, token) in asked.iter().enumerate() {
        if token.trim().is_empty() || asked[..at].contains(token) {
            return Err(refused(format!("the new token {token:?} is empty or named twice")));
        }
    }
    let mut inner = (*before.inner).clone();
    let as_added = |special: bool| move |text: &String| AddedToken::from(text.clone(), special).normalized(false);
    inner.add_special_tokens(&tokens.special.iter().map(as_added(true)).collect::<Vec<_>>());
    // A word that the vocabulary has as a piece is one token already.
    let lacked = |text: &&String| before.token_to_id(text).is_none();
    inner.add_tokens(&tokens.words.iter().filter(lacked).map(as_added(false)).collect::<Vec<_>>());
    copy(from, to)?;
    for name in ["config.json", "generation_config.json"] {
        let path = from.join(name);
        if path.is_file() {
            fs::copy(&path, to.join(name)).map_err(|source| DataError::Read { path, source })?;
        }
    }
    let mut added: Vec<(u32, AddedToken)> = inner.get_added_tokens_decoder().into_iter().collect();
    added.sort_by_key(|(id, _)| *id);
    let mut config = object(to, CONFIG)?;
    let whole = to.join(JSON).is_file();
    if whole {
        let mut file = object(to, JSON)?;
        file.insert("added_tokens".into(), added.iter().map(|(id, token)| described(*id, token)).collect());
        write(&to.join(JSON), &file)?;
    }
    if !whole || config.contains_key(DECLARED) {
        declare(&mut config, &added, &before);
        write(&to.join(CONFIG), &config)?;
    }
    let after = Tokenizer::from_folder(to)?;
    let ids = asked.into_iter().map(|token| match (after.token_to_id(token), inner.token_to_id(token)) {
        (Some(id), Some(expected)) if id == expected => {
            Ok(AddedId { token: token.clone(), id, is_new: before.token_to_id(token).is_none() })
        }
        (found, expected) => Err(refused(format!(
            "the new token {token:?} was to have the id {expected:?} and was read back as {found:?}"
        ))),
    });
    ids.collect()
}

/// Declares all added tokens in the configuration. Beside such a declaration `special_tokens_map.json` no longer counts,
/// so the names go into the configuration too.
fn declare(config: &mut Map<String, Value>, added: &[(u32, AddedToken)], before: &Tokenizer) {
    if !config.contains_key(DECLARED) {
        for (name, text) in &before.special.texts {
            config.insert(name.clone(), text.clone().into());
        }
    }
    let declared = added.iter().map(|(id, token)| {
        let mut description = described(*id, token);
        if let Some(description) = description.as_object_mut() {
            description.remove("id");
        }
        (id.to_string(), description)
    });
    config.insert(DECLARED.into(), Value::Object(declared.collect()));
}

fn described(id: u32, token: &AddedToken) -> Value {
    json!({
        "id": id,
        "content": token.content,
        "single_word": token.single_word,
        "lstrip": token.lstrip,
        "rstrip": token.rstrip,
        "normalized": token.normalized,
        "special": token.special,
    })
}

fn write(path: &Path, object: &Map<String, Value>) -> Result<(), DataError> {
    let text = serde_json::to_string_pretty(object).unwrap_or_default() + "\n";
    fs::write(path, text).map_err(|source| DataError::Write { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn tokens() -> NewTokens {
        NewTokens { special: vec!["<|see|>".into(), "<|im_end|>".into()], words: vec!["Blubber".into()] }
    }

    /// Folders of every form: a whole file with and without declared tokens, vocabulary and merges, SentencePiece.
    #[test]
    fn new_tokens_follow_the_old_ones_in_every_form_of_file() {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/tokenizers");
        let mut folders: Vec<_> =
            ["gpt2", "gptj", "qwen2", "llama", "mistral", "gemma"].iter().map(|name| goldens.join(name)).collect();
        folders.push(testing::data().join("tokenizer"));
        folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/models/spark-2m"));
        for from in folders {
            let to = tempfile::tempdir().unwrap();
            let before = Tokenizer::from_folder(&from).unwrap();
            let found = extend(&from, to.path(), &tokens()).unwrap();
            let after = Tokenizer::from_folder(to.path()).unwrap();
            let name = from.display();
            let size = u32::try_from(before.id_limit()).unwrap();
            let had = before.token_to_id("<|im_end|>");
            assert_eq!(found[0], AddedId { token: "<|see|>".into(), id: size, is_new: true }, "{name}");
            assert_eq!((found[1].id, found[1].is_new), (had.unwrap_or(size + 1), had.is_none()), "{name}");
            assert_eq!(after.id_limit(), before.id_limit() + 2 + usize::from(had.is_none()), "{name}");
            assert!(after.is_special(found[0].id) && after.is_special(found[1].id), "{name}");
            assert!(!after.is_special(found[2].id), "{name}");
            for text in ["the man of the world", "it is 1948", "a<s>b</s>"] {
                assert_eq!(after.encode(text, true).unwrap(), before.encode(text, true).unwrap(), "{name}: {text}");
            }
            let ids = after.encode("<|see|>Blubber<|see|>", false).unwrap();
            assert_eq!((ids[0], *ids.last().unwrap()), (found[0].id, found[0].id), "{name}");
            assert!(ids.contains(&found[2].id), "{name}");
            assert_eq!(after.special().eos_id, before.special().eos_id, "{name}");
            assert_ne!(after.hash(), before.hash(), "{name}");
        }
    }

    #[test]
    fn a_token_named_twice_or_empty_is_refused() {
        let from = testing::data().join("tokenizer");
        for (special, words) in [(vec!["<a>", "<a>"], vec![]), (vec!["<a>"], vec!["<a>"]), (vec![" "], vec![])] {
            let owned = |list: Vec<&str>| list.into_iter().map(String::from).collect();
            let to = tempfile::tempdir().unwrap();
            let new = NewTokens { special: owned(special), words: owned(words) };
            assert!(extend(&from, to.path(), &new).unwrap_err().to_string().contains("new token"));
        }
    }
}
