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

/// A template from its source, with the special tokens of [`tokenizer`].
pub fn template(source: &str) -> ChatTemplate {
    ChatTemplate::from_source("test", source, tokenizer().special(), None).unwrap()
}
