//! Hub models through the program and its environment.

use std::path::Path;
use std::process::Output;

use firebrand_tests::hub_server::{Fault, HubServer};

use crate::program::firebrand;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/goldens/llama-gqa-tied");

fn score(folder: &Path, model: &str, endpoint: &str, offline: bool) -> Output {
    std::fs::write(folder.join("rows.jsonl"), "{\"input_ids\": [1, 5, 9, 2]}\n").unwrap();
    let mut command = firebrand();
    command.current_dir(folder).env("HF_HOME", folder.join("hf")).env("HF_ENDPOINT", endpoint);
    if offline {
        command.env("HF_HUB_OFFLINE", "1");
    }
    command.args(["score", "--model", model, "--data", "rows.jsonl", "--out", "scores.jsonl"]).output().unwrap()
}

#[test]
fn a_command_takes_a_hub_id_resumes_it_and_then_needs_no_network() {
    let server = HubServer::start().unwrap();
    let read = |name: &str| std::fs::read(Path::new(GOLDEN).join(name)).unwrap();
    let (config, weights) = (read("config.json"), read("model.safetensors"));
    server.publish("acme/llama", &["main"], &[("config.json", &config), ("model.safetensors", &weights)]);
    let folder = tempfile::tempdir().unwrap();

    let missing = score(folder.path(), "acme/none", &server.endpoint(), false);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("acme/none"));

    server.fail("model.safetensors", Fault::CutAfter(50_000), 1);
    let first = score(folder.path(), "acme/llama", &server.endpoint(), false);
    let messages = String::from_utf8_lossy(&first.stderr);
    assert!(first.status.success() && messages.contains("fetching acme/llama"), "{messages}");
    assert!(
        server
            .take_requests()
            .iter()
            .any(|request| { request.headers.get("range").is_some_and(|range| range == "bytes=50000-") })
    );
    let scores = std::fs::read(folder.path().join("scores.jsonl")).unwrap();
    std::fs::remove_file(folder.path().join("scores.jsonl")).unwrap();

    let second = score(folder.path(), "acme/llama", "http://127.0.0.1:9", true);
    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
    assert_eq!(std::fs::read(folder.path().join("scores.jsonl")).unwrap(), scores);
}

#[test]
fn a_command_takes_a_dataset_of_the_hub() {
    let server = HubServer::start().unwrap();
    server.publish("datasets/acme/rows", &["main"], &[("validation.jsonl", b"{\"input_ids\": [1, 5, 9, 2]}\n")]);
    let folder = tempfile::tempdir().unwrap();
    let run = |endpoint: &str, offline: bool| {
        let mut command = firebrand();
        command.current_dir(folder.path()).env("HF_HOME", folder.path().join("hf")).env("HF_ENDPOINT", endpoint);
        if offline {
            command.env("HF_HUB_OFFLINE", "1");
        }
        let data = "hf://datasets/acme/rows";
        command.args(["score", "--model", GOLDEN, "--data", data, "--out", "scores.jsonl"]).output().unwrap()
    };
    for (endpoint, offline) in [(server.endpoint().as_str(), false), ("http://127.0.0.1:9", true)] {
        let output = run(endpoint, offline);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read_to_string(folder.path().join("scores.jsonl")).unwrap().lines().count(), 1);
        std::fs::remove_file(folder.path().join("scores.jsonl")).unwrap();
    }
}
