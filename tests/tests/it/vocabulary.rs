//! Tokens that the base does not have: trained, used, merged, continued; and adapters with a tokenizer of their own.

use std::fs;

use firebrand_datasets::Tokenizer;
use firebrand_models::{Hold, Model};
use serde_json::{Value, json};

use crate::workshop::{RECIPE, Workshop, assert_says, chat_row};

const NEW: &str = "\n[vocabulary]\nadd = [\"<image>\", \"<|im_end|>\"]\nadd_words = [\"Blubber\"]\ninit = { \"<image>\" = \"a picture\" }\n";

fn row(index: usize) -> Value {
    json!({"messages": [
        {"role": "user", "content": format!("<image> what is {index}")},
        {"role": "assistant", "content": format!("Blubber {index}")},
    ]})
}

fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.write("recipe.toml", &format!("{RECIPE}{NEW}"));
    workshop.write_rows("data.jsonl", &(0..6).map(row).collect::<Vec<_>>());
    workshop
}

fn loss(workshop: &Workshop, arguments: &[&str]) -> f64 {
    let said = workshop.succeed(&[&["eval", "--data", "data.jsonl", "--json"], arguments].concat());
    serde_json::from_str::<Value>(&said.stdout).unwrap()["loss"].as_f64().unwrap()
}

#[test]
fn new_tokens_are_trained_and_go_with_the_adapter_and_the_merged_model() {
    let workshop = workshop();
    let said =
        workshop.succeed(&["train", "recipe.toml", "--set", "export.merge=true", "--set", "data.gate.allow_control=1"]);
    assert_says!(said.stderr, "\"<|im_end|>\" is a token already (id 32)");
    let adapter = workshop.path("run/adapter");
    let tokenizer = Tokenizer::from_folder(&adapter).unwrap();
    assert_eq!([tokenizer.token_to_id("<image>"), tokenizer.token_to_id("Blubber")], [Some(97), Some(98)]);
    let config: Value = serde_json::from_slice(&workshop.read("run/adapter/adapter_config.json")).unwrap();
    assert_eq!(config["modules_to_save"], json!(["embed_tokens"]));
    assert_eq!(config["ensure_weight_tying"], true, "head and embedding are one matrix and stay it");
    let config: Value = serde_json::from_slice(&workshop.read("run/model/config.json")).unwrap();
    assert_eq!(config["vocab_size"], 99);
    let merged = Tokenizer::from_folder(&workshop.path("run/model")).unwrap();
    assert_eq!(merged.token_to_id("<image>"), Some(97));
    // The adapter on the small base, its checkpoint, the merged model, and a merge of its own are one model.
    let trained = loss(&workshop, &["--model", "model", "--adapter", "run/adapter"]);
    let checkpoint = loss(&workshop, &["--model", "model", "--adapter", "run/checkpoint-3"]);
    assert_eq!(trained, checkpoint);
    workshop.succeed(&["merge", "--model", "model", "--adapter", "run/adapter", "--out", "again"]);
    for model in ["run/model", "again"] {
        let found = loss(&workshop, &["--model", model]);
        assert!((found - trained).abs() < 1e-5, "{model}: {found}, not {trained}");
    }
    assert_eq!(workshop.read("again/tokenizer.json"), workshop.read("run/model/tokenizer.json"));
    // The base alone splits the new tokens into letters.
    let said =
        workshop.succeed(&["data", "recipe.toml", "--json", "--rows", "1", "--set", "data.gate.allow_control=1"]);
    let shown: Value = serde_json::from_str(said.stdout.trim()).unwrap();
    assert!(shown["input_ids"].as_array().unwrap().contains(&json!(97)), "{shown}");
    let ask =
        ["generate", "--model", "model", "--adapter", "run/adapter", "--prompt", "<image>", "--max-new-tokens", "3"];
    workshop.succeed(&ask);
}

#[test]
fn a_run_with_new_tokens_resumes_to_the_same_bytes() {
    let workshop = workshop();
    let with = |more: &[&'static str]| {
        [&["train", "recipe.toml", "--set", "data.gate.allow_control=1", "--set", "checkpoint.every=1"][..], more]
            .concat()
    };
    workshop.succeed(&with(&[]));
    let whole = workshop.read("run/adapter/adapter_model.safetensors");
    fs::remove_dir_all(workshop.path("run/adapter")).unwrap();
    workshop.succeed(&with(&["--resume", "run/checkpoint-2"]));
    assert!(workshop.read("run/adapter/adapter_model.safetensors") == whole);
}

#[test]
fn a_full_run_writes_the_larger_model() {
    let workshop = workshop();
    let full: String = RECIPE.replace("[adapter]\nkind = \"lora\"\nrank = 2\nalpha = 4.0\n", "");
    workshop.write("recipe.toml", &format!("{full}{NEW}"));
    workshop.succeed(&["train", "recipe.toml", "--set", "data.gate.allow_control=1"]);
    let model = Model::load(&workshop.path("run/model"), Hold::F32, &burn::tensor::Device::flex()).unwrap();
    assert_eq!(model.vocabulary(), Some(99));
    loss(&workshop, &["--model", "run/model"]);
}

#[test]
fn a_tokenizer_with_more_tokens_than_rows_is_named_and_can_be_served() {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &[row(0), row(1)]);
    workshop.succeed(&["enlarge", "--model", "model", "--add", "<image>", "--add", "<pad2>", "--out", "larger"]);
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(workshop.path(&format!("larger/{file}")), workshop.path(&format!("model/{file}"))).unwrap();
    }
    let check = ["check", "recipe.toml", "--set", "data.gate.allow_control=1"];
    assert_says!(
        workshop.fail(&check),
        "token id 97 (\"<image>\")",
        "the tokenizer has 99 tokens, the model rows for 97",
        "[vocabulary]",
        "firebrand enlarge"
    );
    // An empty section gives the rows that are missing; so does the command without tokens.
    workshop.write("with.toml", &format!("{RECIPE}\n[vocabulary]\n"));
    workshop.succeed(&["train", "with.toml", "--set", "data.gate.allow_control=1", "--output", "with"]);
    workshop.succeed(&["enlarge", "--model", "model", "--out", "same"]);
    assert_eq!(workshop.read("same/model.safetensors"), workshop.read("larger/model.safetensors"));
    workshop.succeed(&["check", "recipe.toml", "--set", "data.gate.allow_control=1", "--set", "model=\"same\""]);
    // Tokens that no row uses are no reason to refuse.
    workshop.write_rows("data.jsonl", &[chat_row(0), chat_row(1)]);
    workshop.succeed(&["train", "recipe.toml", "--output", "unused"]);
}

#[test]
fn what_makes_no_sense_of_new_tokens_is_refused() {
    let workshop = workshop();
    let refused = |set: &str| workshop.fail(&["check", "recipe.toml", "--set", set]);
    assert_says!(refused("vocabulary.init={\"<other>\"=\"x\"}"), "<other>", "vocabulary.add");
    assert_says!(refused("vocabulary.add=[\"<image>\", \"<image>\"]"), "<image>");
    assert_says!(refused("vocabulary.add_words=[\"<image>\"]"), "<image>");
}

/// An adapter from elsewhere brings the tokenizer and template that it was trained with.
#[test]
fn an_adapters_own_tokenizer_and_template_are_used() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml"]);
    fs::remove_file(workshop.path("run/adapter/firebrand.json")).unwrap();
    workshop.write_rows("ask.jsonl", &[chat_row(0)]);
    let ask = ["score", "--model", "model", "--adapter", "run/adapter", "--data", "ask.jsonl", "--out"];
    workshop.succeed(&[&ask[..], &["before.jsonl"]].concat());
    workshop.write("run/adapter/chat_template.jinja", "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}");
    workshop.succeed(&[&ask[..], &["after.jsonl"]].concat());
    let tokens = |name: &str| -> Vec<u64> {
        let row: Value = serde_json::from_slice(&workshop.read(name)).unwrap();
        row["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
    };
    let text = |content: &str| -> Vec<u64> {
        let tokenizer = Tokenizer::from_folder(&workshop.path("model")).unwrap();
        tokenizer.encode(content, false).unwrap().into_iter().map(u64::from).collect()
    };
    let messages = chat_row(0)["messages"].clone();
    let plain: String = messages
        .as_array()
        .unwrap()
        .iter()
        .map(|message| format!("{}<|im_end|>", message["content"].as_str().unwrap()))
        .collect();
    assert_ne!(tokens("before.jsonl"), tokens("after.jsonl"));
    assert_eq!(tokens("after.jsonl"), text(&plain));
    workshop.succeed(&["merge", "--model", "model", "--adapter", "run/adapter", "--out", "merged"]);
    let written = String::from_utf8(workshop.read("merged/chat_template.jinja")).unwrap();
    assert!(written.starts_with("{% for m in messages %}"), "{written}");
    // With a tokenizer of its own too, its ids count, and the end tokens of the base still end an answer.
    let larger = tempfile::tempdir().unwrap();
    let new = firebrand_datasets::tokenizer::NewTokens { special: vec!["what".into()], words: vec![] };
    firebrand_datasets::tokenizer::extend(&workshop.path("model"), larger.path(), &new).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(larger.path().join(file), workshop.path(&format!("run/adapter/{file}"))).unwrap();
    }
    workshop.write_rows("ask.jsonl", &[json!({"prompt": "x", "completion": "what"})]);
    assert_says!(
        workshop.fail(&[&ask[..], &["more.jsonl"]].concat()),
        "token id 97 (\"what\")",
        "the tokenizer has 98 tokens, the model rows for 97"
    );
}
