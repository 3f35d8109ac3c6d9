//! Joined documents: a pack trains as one row of its documents, one after the other.

use std::fs;

use firebrand_tests::{golden, tiny};
use serde_json::{Value, json};

use crate::workshop::{RECIPE, Workshop, assert_says};

/// Five documents in tokens that fit into one window of [`RECIPE`], with ends between them.
fn documents() -> Vec<Vec<u32>> {
    (0..5u32).map(|row| (0..6 + row).map(|at| 33 + (row * 17 + at * 7) % 60).chain([tiny::END_ID]).collect()).collect()
}

fn as_row(ids: &[u32]) -> Value {
    json!({"input_ids": ids, "labels": ids})
}

/// Writes the documents as rows, and as one row, and trains on one of them.
fn train(workshop: &Workshop, output: &str, sets: &[&str]) -> (Vec<Value>, Vec<u8>) {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let arguments: Vec<&str> = ["train", "recipe.toml", "--output", output].into_iter().chain(sets).collect();
    workshop.succeed(&arguments);
    let metrics = workshop.read_rows(&format!("{output}/metrics.jsonl"));
    let numbers = metrics.iter().map(|line| json!([line["loss"], line["grad_norm"], line["tokens"]])).collect();
    (numbers, workshop.read(&format!("{output}/adapter/adapter_model.safetensors")))
}

fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop
        .write("recipe.toml", &RECIPE.replace("path = \"data.jsonl\"", "path = \"data.jsonl\"\nformat = \"tokens\""));
    let rows: Vec<Value> = documents().iter().map(|ids| as_row(ids)).collect();
    workshop.write_rows("data.jsonl", &rows);
    workshop.write_rows("one.jsonl", &[as_row(&documents().concat())]);
    workshop
}

/// Losses, norms of gradients, tokens and the bytes of what was trained.
#[test]
fn a_joined_pack_trains_as_one_row_of_its_documents() {
    let workshop = workshop();
    let one = train(&workshop, "one", &["data.train.0.path=\"one.jsonl\""]);
    let joined = train(&workshop, "joined", &["data.document_attention=\"joined\"", "data.shuffle=false"]);
    let separate = train(&workshop, "separate", &["data.shuffle=false"]);
    assert_eq!(joined.0, one.0);
    assert!(joined.1 == one.1);
    assert_ne!(separate.0[0][0], one.0[0][0]);
    let shown = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        workshop.succeed(&["data", "recipe.toml"].into_iter().chain(sets).collect::<Vec<&str>>()).stdout
    };
    let joined = shown(&["data.document_attention=\"joined\""]);
    assert!(joined.contains("pack 1, segment 1") && !joined.contains("segment 2"), "{joined}");
    assert_says!(shown(&[]), "pack 1, segment 5");
}

#[test]
fn a_run_on_joined_documents_resumes_to_the_same_bytes_and_knows_another_setting() {
    let workshop = workshop();
    let sets = ["data.document_attention=\"joined\"", "data.max_length=24", "checkpoint.every=1"];
    let (_, whole) = train(&workshop, "run", &sets);
    fs::remove_dir_all(workshop.path("run/adapter")).unwrap();
    let resumed = |document_attention: &str| {
        let set = format!("data.document_attention={document_attention:?}");
        let mut arguments = vec!["train", "recipe.toml", "--resume", "run/checkpoint-2", "--output", "run"];
        arguments.extend(["--set", &set, "--set", "data.max_length=24", "--set", "checkpoint.every=1"]);
        workshop.run(&arguments)
    };
    assert_says!(resumed("separate").stderr, "data.document_attention");
    assert_eq!(resumed("joined").code, Some(0));
    assert!(workshop.read("run/adapter/adapter_model.safetensors") == whole);
}

#[test]
fn what_may_not_be_joined_is_refused_before_it_is_read() {
    let workshop = Workshop::new();
    let check = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let joined = ["check", "recipe.toml", "--set", "data.document_attention=\"joined\""];
        workshop.fail(&joined.into_iter().chain(sets).collect::<Vec<&str>>())
    };
    assert_says!(check(&[]), "document_attention = \"joined\" is for text and tokens", "format messages");
    assert_says!(check(&["data.train.0.format=messages"]), "joined only of text and tokens", "format messages");
    assert_says!(check(&["data.packing=false"]), "rows are not packed", "remove packing = false");
    // A table of positions ends; a pack's positions run on.
    let ids: Vec<u32> = (0..40).collect();
    workshop.write_rows("data.jsonl", &(0..40).map(|_| as_row(&ids)).collect::<Vec<_>>());
    fs::copy(golden::path("gpt2/config.json"), workshop.path("model/config.json")).unwrap();
    fs::copy(golden::path("gpt2/model.safetensors"), workshop.path("model/model.safetensors")).unwrap();
    let config: Value = serde_json::from_slice(&workshop.read("model/config.json")).unwrap();
    let limit = config["n_positions"].as_u64().unwrap();
    let refused = check(&["data.max_length=1024", "data.train.0.format=tokens"]);
    assert_says!(refused, "packs of joined documents may be 1024 tokens long", &format!("has positions for {limit}"));
}
