//! What the tests of several files share: a small byte-level tokenizer and a way to write files.

use std::path::{Path, PathBuf};

use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// The folder of the test data.
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// About 400 tokens, byte-level, with the control tokens of the built-in templates; EOS is `<|im_end|>`.
pub fn tokenizer() -> Tokenizer {
    Tokenizer::from_folder(&data().join("tokenizer")).unwrap()
}

/// A folder with the `tokenizer.json` of [`tokenizer`] and another configuration.
pub fn tokenizer_folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(data().join("tokenizer/tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    dir
}

/// The same folder, whose tokenizer puts `<s>` before every text and ends them with `</s>`.
pub fn tokenizer_folder_with_bos() -> tempfile::TempDir {
    let dir = tokenizer_folder(r#"{"bos_token": "<s>", "eos_token": "</s>"}"#);
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let bos = Tokenizer::from_folder(dir.path()).unwrap().token_to_id("<s>").unwrap();
    json["post_processor"] = serde_json::json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]}}});
    std::fs::write(&path, json.to_string()).unwrap();
    dir
}

/// A template from its source, with the special tokens of [`tokenizer`].
pub fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_source("test", source, tokenizer().special(), None).unwrap()
}
