//! Models from a hub: a local server plays it, the cache is a temporary folder.

mod access;
mod cached;
mod command;
mod datasets;
mod download;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firebrand_hub::{HubError, HubOptions, locate};
use firebrand_tests::hub_server::{HubServer, Request};
use tempfile::TempDir;

const MODEL: &str = "acme/tiny";

/// A hub with one model, and a cache that is empty.
struct World {
    server: HubServer,
    options: HubOptions,
    folder: TempDir,
    weights: Vec<u8>,
    commit: String,
}

impl World {
    fn new() -> Self {
        let server = HubServer::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut options = HubOptions::new(folder.path().join("hub"));
        options.endpoint = server.endpoint();
        options.retries = 0;
        options.backoff = Duration::from_millis(1);
        options.timeout = Duration::from_secs(10);
        options.progress = false;
        let weights = bytes(1, 300_000);
        let commit = server.publish(MODEL, &["main"], &files(&weights));
        Self { server, options, folder, weights, commit }
    }

    fn locate(&self) -> Result<PathBuf, HubError> {
        locate(MODEL, &self.options)
    }

    fn offline(&self) -> Result<PathBuf, HubError> {
        locate(MODEL, &HubOptions { offline: true, ..self.options.clone() })
    }

    /// The model's folder in the cache.
    fn root(&self) -> PathBuf {
        self.folder.path().join("hub/models--acme--tiny")
    }

    fn blob(&self, name: &str) -> PathBuf {
        self.root().join("blobs").join(name)
    }

    fn requests_for(&self, file: &str) -> Vec<Request> {
        let end = format!("/{file}");
        self.server.take_requests().into_iter().filter(|request| request.target.ends_with(&end)).collect()
    }
}

/// A model repository, with much that is of no use here.
fn files(weights: &[u8]) -> Vec<(&'static str, &[u8])> {
    vec![
        ("README.md", b"# Tiny"),
        ("config.json", br#"{"model_type": "llama"}"#),
        ("generation_config.json", b"{}"),
        ("tokenizer.json", b"{\"version\": \"1.0\"}"),
        ("tokenizer_config.json", b"{}"),
        ("chat_template.jinja", b"{{ messages }}"),
        ("model.safetensors", weights),
        ("pytorch_model.bin", b"pickle"),
        ("onnx/model.onnx", b"onnx"),
        ("original/consolidated.safetensors", b"other names"),
    ]
}

/// Bytes without a pattern, the same ones for the same seed.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// What is in a folder: names and contents.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

/// The message, which must be worth reading.
fn message(result: Result<PathBuf, HubError>) -> String {
    let message = result.expect_err("this must fail").to_string();
    assert!(message.len() > 40, "{message}");
    message
}

macro_rules! assert_mentions {
    ($message:expr, $($word:expr),+) => {{
        let message = $message;
        $(assert!(message.contains($word), "no {:?} in: {message}", $word);)+
    }};
}
use assert_mentions;
