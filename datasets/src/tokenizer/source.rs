//! The tokenizer files of a model folder: [`Source`] loads `tokenizer.json`, else `vocab.json` with `merges.txt`, else
//! a SentencePiece `tokenizer.model`. All of them become the same type. Not here: tiktoken files, which are refused by
//! name.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::added::AddedTokens;
use super::byte_bpe::{ByteBpe, read_merges};
use super::json_file::object;
use super::model_proto::{Kind, ModelProto};
use super::sentencepiece;
use super::special::{Around, Defaults};
use crate::error::DataError;

const JSON: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const SENTENCEPIECE: &str = "tokenizer.model";

/// Names of classes that do not identify the tokenizer.
const GENERIC: [&str; 4] = ["PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "MistralCommonBackend"];

/// A tokenizer as its files give it, before special tokens are named.
pub(super) struct Source {
    pub inner: tokenizers::Tokenizer,
    /// The file that messages name.
    pub path: PathBuf,
    /// Hash of the files that it is made of.
    pub hash: Sha256,
    pub defaults: Defaults,
}

impl Source {
    /// Whether the folder holds files of a tokenizer, even of one that cannot be read.
    pub(super) fn is_in(folder: &Path) -> bool {
        [JSON, VOCABULARY, SENTENCEPIECE].iter().any(|name| folder.join(name).exists()) || tiktoken(folder).is_some()
    }

    pub(super) fn load(folder: &Path) -> Result<Self, DataError> {
        let holds = |name: &str| folder.join(name).exists();
        if holds(JSON) {
            json(folder)
        } else if holds(VOCABULARY) && holds(MERGES) {
            byte_bpe(folder)
        } else if holds(SENTENCEPIECE) {
            sentence_piece(folder)
        } else if let Some(name) = tiktoken(folder) {
            Err(refused(
                &folder.join(&name),
                "a tiktoken vocabulary, which is not read here; put the tokenizer.json of the same model beside it \
                 (transformers' AutoTokenizer writes one with save_pretrained)",
            ))
        } else {
            Err(refused(
                folder,
                format!("no tokenizer: expected {JSON}, or {VOCABULARY} with {MERGES}, or {SENTENCEPIECE}"),
            ))
        }
    }
}

fn json(folder: &Path) -> Result<Source, DataError> {
    let path = folder.join(JSON);
    let bytes = read(&path)?;
    let added = AddedTokens::load(folder, &object(folder, "tokenizer_config.json")?)?;
    let mut hash = Sha256::new_with_prefix(&bytes);
    let inner = guarded(&path, || {
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|problem| no_tokenizer(&path, &problem.to_string()))?;
        let before = inner.get_added_tokens_decoder();
        added.add_to_whole(&mut inner);
        if inner.get_added_tokens_decoder() != before {
            hash.update(format!("{added:?}"));
        }
        Ok(inner)
    })?;
    Ok(Source { inner, path, hash, defaults: Defaults::default() })
}

fn byte_bpe(folder: &Path) -> Result<Source, DataError> {
    let path = folder.join(VOCABULARY);
    let (vocabulary, merges) = (read(&path)?, read(&folder.join(MERGES))?);
    let config = object(folder, "tokenizer_config.json")?;
    let named = Named::of(folder, &config)?;
    let kind = match (&named.class, &named.model_type) {
        (Some(class), _) => ByteBpe::of_class(class),
        (None, Some(model_type)) => ByteBpe::of_model(model_type),
        (None, None) => None,
    };
    let kind = kind.ok_or_else(|| named.refused(&path, ByteBpe::CLASSES))?;
    let tokens: HashMap<String, u32> = serde_json::from_slice(&vocabulary)
        .map_err(|problem| refused(&path, format!("expected tokens and their ids: {problem}")))?;
    let text = std::str::from_utf8(&merges).map_err(|problem| refused(&folder.join(MERGES), problem.to_string()))?;
    let pairs = read_merges(text).map_err(|why| refused(&folder.join(MERGES), why))?;
    let prefix_space = config.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(false);
    let added = AddedTokens::load(folder, &config)?;
    let hash = digest(&format!("{kind:?} {prefix_space} {added:?}"), &[&vocabulary, &merges]);
    let inner = guarded(&path, || {
        let built = kind.build(tokens, pairs, prefix_space);
        let mut inner = built.map_err(|problem| no_tokenizer(&path, &problem.to_string()))?;
        added.add_to(&mut inner, Vec::new(), folder)?;
        Ok(inner)
    })?;
    let tokens = kind.special_tokens().iter().map(|(name, text)| (*name, text.to_string())).collect();
    let (bos, eos) = kind.around();
    Ok(Source { inner, path, hash, defaults: Defaults { tokens, around: Around::Tokens { bos, eos } } })
}

fn sentence_piece(folder: &Path) -> Result<Source, DataError> {
    let path = folder.join(SENTENCEPIECE);
    let bytes = read(&path)?;
    let config = object(folder, "tokenizer_config.json")?;
    let named = Named::of(folder, &config)?;
    if named.class.as_deref().is_some_and(|class| !sentencepiece::knows_class(class)) {
        return Err(named.refused(&path, sentencepiece::CLASSES));
    }
    let mut model = ModelProto::parse(&bytes).map_err(|why| match is_tiktoken(&bytes) {
        true => refused(
            &path,
            "a tiktoken vocabulary, not a SentencePiece model; put the tokenizer.json of the same model beside it",
        ),
        false => refused(&path, format!("not a SentencePiece model: {why}")),
    })?;
    let has = |model: &ModelProto, text: &str| {
        model.pieces.iter().any(|piece| piece.text == text && piece.kind != Kind::Normal)
    };
    // Models with this format were trained with BOS before every text.
    let begins = has(&model, &model.bos);
    let added = AddedTokens::load(folder, &config)?;
    rename(&mut model, &added);
    let tokens = [("bos_token", &model.bos), ("eos_token", &model.eos), ("unk_token", &model.unknown)]
        .into_iter()
        .filter(|(_, text)| has(&model, text))
        .map(|(name, text)| (name, text.clone()))
        .collect();
    let flags = ["legacy", "add_prefix_space"].map(|name| config.get(name).and_then(Value::as_bool));
    let hash = digest(&format!("{flags:?} {added:?}"), &[&bytes]);
    let inner = guarded(&path, || {
        let (mut inner, control) = sentencepiece::build(&model, &config).map_err(|why| no_tokenizer(&path, &why))?;
        added.add_to(&mut inner, control, folder)?;
        Ok(inner)
    })?;
    Ok(Source { inner, path, hash, defaults: Defaults { tokens, around: Around::Tokens { bos: begins, eos: false } } })
}

/// Renames placeholders of the vocabulary to what the files beside it call them.
fn rename(model: &mut ModelProto, added: &AddedTokens) {
    let taken: std::collections::HashSet<String> = model.pieces.iter().map(|piece| piece.text.clone()).collect();
    for (id, piece) in model.pieces.iter_mut().enumerate() {
        if let Some(name) = added.name_of(id).filter(|name| !taken.contains(*name)) {
            piece.text = name.to_owned();
        }
    }
}

/// The names that the files give to the tokenizer and the model.
struct Named {
    /// `tokenizer_class` without `Fast`; `None` when it is absent or identifies nothing.
    class: Option<String>,
    model_type: Option<String>,
}

impl Named {
    fn of(folder: &Path, config: &Map<String, Value>) -> Result<Self, DataError> {
        let model = object(folder, "config.json")?;
        let text = |file: &Map<String, Value>, key: &str| file.get(key).and_then(Value::as_str).map(str::to_owned);
        let class = text(config, "tokenizer_class").or_else(|| text(&model, "tokenizer_class"));
        let class = class.map(|name| name.strip_suffix("Fast").unwrap_or(&name).to_owned());
        Ok(Self {
            class: class.filter(|name| !GENERIC.contains(&name.as_str())),
            model_type: text(&model, "model_type"),
        })
    }

    fn refused(&self, path: &Path, known: &str) -> DataError {
        let found = match (&self.class, &self.model_type) {
            (Some(class), _) => format!("`tokenizer_class` is {class}"),
            (None, Some(model_type)) => {
                format!("tokenizer_config.json names no `tokenizer_class`, and `model_type` is {model_type}")
            }
            (None, None) => {
                "neither tokenizer_config.json names a `tokenizer_class` nor config.json a `model_type`".into()
            }
        };
        refused(path, format!("{found}; read from such a file are {known}. A tokenizer.json needs no class"))
    }
}

/// The name of a tiktoken vocabulary in the folder.
fn tiktoken(folder: &Path) -> Option<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names.into_iter().find(|name| {
        name == "tekken.json"
            || name == "tiktoken.model"
            || Path::new(name).extension().is_some_and(|end| end == "tiktoken")
    })
}

/// Whether a file is a tiktoken vocabulary, that is lines of base64 and a rank; LLaMA 3 also calls it
/// `tokenizer.model`.
fn is_tiktoken(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some((token, rank)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else {
        return false;
    };
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    !token.is_empty() && token.bytes().all(base64) && rank.trim_end().parse::<u32>().is_ok()
}

/// Runs code that was not written for hostile files; a panic becomes an error.
pub(super) fn guarded<T>(path: &Path, run: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(no_tokenizer(path, "its parser gave up")))
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|source| DataError::Read { path: path.to_path_buf(), source })
}

/// A hash of settings and files. The length of each file is hashed too, so that different lists of files differ.
fn digest(settings: &str, files: &[&[u8]]) -> Sha256 {
    let mut hash = Sha256::new();
    for part in std::iter::once(&settings.as_bytes()).chain(files) {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash
}

fn no_tokenizer(path: &Path, why: &str) -> DataError {
    refused(path, format!("not a tokenizer: {why}"))
}

fn refused(path: &Path, why: impl Into<String>) -> DataError {
    DataError::Tokenizer { path: path.to_path_buf(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::tokenizer::Tokenizer;
    use crate::tokenizer::model_proto::tests::{field, piece};

    fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(folder.join(name), content).unwrap();
    }

    fn error(folder: &Path) -> String {
        Tokenizer::from_folder(folder).unwrap_err().to_string()
    }

    /// `a`, `b`, `ab` and an end token, with a class.
    fn byte_level() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "vocab.json", r#"{"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}"#);
        write(folder.path(), "merges.txt", "#version: 0.2\na b\n");
        write(folder.path(), "tokenizer_config.json", r#"{"tokenizer_class": "GPT2TokenizerFast"}"#);
        folder
    }

    /// `<unk>`, `<s>`, `</s>`, `▁`, `a`, `▁a`.
    fn sentence_piece(more: &[Vec<u8>]) -> tempfile::TempDir {
        let pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3), ("▁", 1), ("a", 1), ("▁a", 1)];
        let mut bytes: Vec<u8> =
            pieces.iter().zip(0u8..).flat_map(|((text, kind), id)| piece(text, -f32::from(id), *kind)).collect();
        bytes.extend(field(2, &[3 << 3, 2]));
        bytes.extend(more.concat());
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "tokenizer.model", bytes);
        folder
    }

    #[test]
    fn a_folder_without_a_tokenizer_is_told_what_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Tokenizer::is_in(folder.path()));
        let said = error(folder.path());
        for name in ["tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"] {
            assert!(said.contains(name), "{said}");
        }
        write(folder.path(), "qwen.tiktoken", "IQ== 0\n");
        assert!(Tokenizer::is_in(folder.path()));
        let said = error(folder.path());
        assert!(said.contains("qwen.tiktoken") && said.contains("tokenizer.json"), "{said}");
        write(folder.path(), "tokenizer.model", "IQ== 0\nIg== 1\n");
        assert!(error(folder.path()).contains("tiktoken"));
        write(folder.path(), "tokenizer.model", [0xff; 9]);
        assert!(error(folder.path()).contains("not a SentencePiece model"));
    }

    #[test]
    fn an_unknown_class_is_refused_by_name() {
        let folder = byte_level();
        write(folder.path(), "tokenizer_config.json", r#"{"tokenizer_class": "RobertaTokenizerFast"}"#);
        let said = error(folder.path());
        assert!(said.contains("RobertaTokenizer") && said.contains("GPT2Tokenizer"), "{said}");
        write(folder.path(), "tokenizer_config.json", r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#);
        assert!(error(folder.path()).contains("model_type"));
        write(folder.path(), "config.json", r#"{"model_type": "mamba"}"#);
        assert!(error(folder.path()).contains("mamba"));
        write(folder.path(), "config.json", r#"{"model_type": "gpt2"}"#);
        assert_eq!(Tokenizer::from_folder(folder.path()).unwrap().encode("ab", true).unwrap(), [2]);
        let folder = sentence_piece(&[]);
        write(folder.path(), "tokenizer_config.json", r#"{"tokenizer_class": "T5Tokenizer"}"#);
        assert!(error(folder.path()).contains("T5Tokenizer"));
    }

    #[test]
    fn broken_files_are_errors_that_name_them() {
        for (name, content, why) in [
            ("vocab.json", r#"{"a": "b"}"#, "ids"),
            ("vocab.json", r#"{"a": 0}"#, "not a tokenizer"),
            ("merges.txt", "a b c", "line 1"),
            ("added_tokens.json", r#"{"<x>": -1}"#, "<x>"),
            ("added_tokens.json", r#"{"<x>": 7}"#, "7"),
            (
                "tokenizer_config.json",
                r#"{"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {"x": {}}}"#,
                "added",
            ),
        ] {
            let folder = byte_level();
            write(folder.path(), name, content);
            let said = error(folder.path());
            assert!(said.contains(name) && said.contains(why), "{said}");
        }
        // A charsmap that claims four gigabytes, and one that leads its reader out of its table.
        for charsmap in [&[0xff; 8][..], &[4, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f], &[0; 4]] {
            let folder = sentence_piece(&[field(3, &field(2, charsmap))]);
            let _ = Tokenizer::from_folder(folder.path()).and_then(|tokenizer| tokenizer.encode("a <s> b", true));
        }
    }

    #[test]
    fn added_tokens_name_placeholders_and_follow_the_vocabulary() {
        let folder = sentence_piece(&[]);
        write(
            folder.path(),
            "tokenizer_config.json",
            r#"{"added_tokens_decoder": {"2": {"content": "<|end|>", "special": true}, "6": {"content": "<|x|>"}},
                "eos_token": "<|end|>"}"#,
        );
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(tokenizer.encode("a<|end|><|x|>", true).unwrap(), [1, 5, 2, 6]);
        assert_eq!(tokenizer.special().eos_id, Some(2));
        assert!(tokenizer.is_special(2) && !tokenizer.is_special(6));
        assert_eq!(tokenizer.special().text("bos_token"), Some("<s>"));
    }

    #[test]
    fn the_hash_covers_every_file_that_decides_ids() {
        let hash = |folder: &tempfile::TempDir| Tokenizer::from_folder(folder.path()).unwrap().hash().to_owned();
        let first = hash(&byte_level());
        assert_eq!(first, hash(&byte_level()));
        for (name, content) in [
            ("vocab.json", r#"{"a": 1, "b": 0, "ab": 2, "<|endoftext|>": 3}"#),
            ("merges.txt", ""),
            ("added_tokens.json", r#"{"<x>": 4}"#),
            ("tokenizer_config.json", r#"{"tokenizer_class": "Qwen2Tokenizer"}"#),
            ("tokenizer_config.json", r#"{"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true}"#),
        ] {
            let folder = byte_level();
            write(folder.path(), name, content);
            assert_ne!(hash(&folder), first, "{name} {content}");
        }
    }
}
