//! Classifiers and reward models as users meet them: what is refused and why, what is written, and the recipes.

use std::fs;
use std::path::Path;

use firebrand_tests::{golden, repository, tensors, tiny};
use serde_json::{Value, json};

use crate::workshop::{Workshop, assert_says};

/// A LoRA run of a classifier on `rows.jsonl`.
const RECIPE: &str = r#"model = "model"
output = "run"
seed = 7
[adapter]
kind = "lora"
rank = 2
alpha = 4.0
[data]
max_length = 64
[[data.train]]
path = "rows.jsonl"
[objective]
kind = "classify"
[train]
steps = 3
batch_size = 2
[optimizer]
learning_rate = 1e-2
[schedule]
kind = "constant"
warmup_steps = 0
[log]
tensorboard = false
[export]
merge = true
"#;

fn workshop(rows: &[Value]) -> Workshop {
    let workshop = Workshop::new();
    workshop.write_rows("rows.jsonl", rows);
    workshop.write("classify.toml", RECIPE);
    without_padding(&workshop);
    workshop
}

/// Takes the padding out of the model's configuration; its tokenizer has one.
fn without_padding(workshop: &Workshop) {
    let path = workshop.path("model/config.json");
    let mut config = json_of(&path);
    config["pad_token_id"] = Value::Null;
    fs::write(path, config.to_string()).unwrap();
}

fn tickets() -> Vec<Value> {
    let labels = ["return", "account", "payment"];
    (0..9).map(|row| json!({"text": format!("Is it {row}, or not?"), "label": labels[row % 3]})).collect()
}

fn check(workshop: &Workshop, settings: &[&str]) -> String {
    let mut arguments = vec!["train", "classify.toml"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    workshop.fail(&arguments)
}

#[test]
fn labels_that_no_class_has_are_refused_by_row_before_weights_are_read() {
    let workshop = workshop(&tickets());
    // Without weights, whatever is refused is refused before they are read.
    fs::remove_file(workshop.path("model/model.safetensors")).unwrap();
    let refused = |rows: &[Value], settings: &[&str], said: &[&str]| {
        workshop.write_rows("rows.jsonl", rows);
        let message = check(&workshop, settings);
        said.iter().for_each(|said| assert_says!(&message, said));
    };
    let row = |label: Value| json!({"text": "Is it?", "label": label});
    let two = |label: Value| vec![row(json!("no")), row(json!("yes")), row(label)];
    let named = ["objective.labels=[\"no\",\"yes\"]"];
    refused(&two(json!("perhaps")), &named, &["rows.jsonl:3", "one of the classes: \"no\", \"yes\"", "\"perhaps\""]);
    refused(&two(json!(2)), &named, &["rows.jsonl:3", "0 to 1", "found 2"]);
    refused(&two(json!(0.5)), &named, &["rows.jsonl:3", "whole number"]);
    refused(&two(json!(["no"])), &[], &["rows.jsonl:3", "to be one class", "a list"]);
    refused(&two(json!(null)), &[], &["rows.jsonl:3", "`label`", "a row without one"]);
    refused(&two(json!(true)), &[], &["rows.jsonl:3", "`label` to be a name"]);
    refused(&[row(json!("no")), row(json!("no"))], &[], &["at least two classes", "only \"no\""]);
    let regression = ["objective.problem=regression"];
    refused(&[row(json!(1.5)), row(json!("high"))], &regression, &["rows.jsonl:2", "to be a number", "\"high\""]);
    let multi = ["objective.problem=multi"];
    refused(&[row(json!(["a", "b"])), row(json!("a"))], &multi, &["rows.jsonl:2", "list of classes"]);
    let ids = |ids: Value| json!({"input_ids": ids, "label": 1});
    refused(&[ids(json!([5, 6])), ids(json!([]))], &[], &["rows.jsonl:2", "a token id or more"]);
    // A label of evaluation rows that no row of training has.
    workshop.write_rows("eval.jsonl", &[row(json!("yes")), row(json!("perhaps"))]);
    let eval = ["data.eval=[{path=\"eval.jsonl\"}]"];
    refused(&[row(json!("no")), row(json!("yes"))], &eval, &["eval.jsonl:2", "\"perhaps\""]);
}

#[test]
fn what_does_not_fit_an_objective_of_texts_is_refused_by_its_key() {
    let workshop = workshop(&tickets());
    for (settings, said) in [
        (&["objective.labels=[\"a\",\"b\",\"a\"]"][..], "names \"a\" twice"),
        (&["objective.labels=[\"a\"]"], "names one class"),
        (&["objective.problem=regression", "objective.labels=[\"a\",\"b\"]"], "regression learns one"),
        (&["sample.prompts=[\"Who?\"]"], "writes no text"),
        (&["vocabulary.add=[\"<new>\"]"], "has no output head"),
        (&["data.train=[{path=\"data.jsonl\",format=\"messages\"}]"], "trains on labelled rows"),
        (
            &["objective={kind=\"reward\"}", "data.train=[{path=\"rows.jsonl\",format=\"labelled\"}]"],
            "a better and a worse",
        ),
        (
            &["objective={kind=\"sft\"}", "data.train=[{path=\"rows.jsonl\",format=\"labelled\"}]"],
            "holds labelled rows",
        ),
        (&["objective={kind=\"reward\",center=0.0}"], "center"),
    ] {
        assert_says!(check(&workshop, settings), said);
    }
    let classifier = format!("model={:?}", golden::path("classifiers/llama").display().to_string());
    let ids: Vec<Value> = (0..4).map(|row| json!({"input_ids": [row + 5, 6], "label": row % 2})).collect();
    workshop.write_rows("rows.jsonl", &ids);
    let named = [classifier.as_str(), "objective.labels=[\"a\",\"b\"]"];
    assert_says!(check(&workshop, &named), "names 2 classes, and the head scores 3");
    let said = check(&workshop, &[&classifier, "objective.problem=regression"]);
    assert_says!(said, "learns one value, and the head scores 3");
    workshop.write_rows("rows.jsonl", &[json!({"prompt_ids": [5], "chosen_ids": [6, 7], "rejected_ids": [8, 9]})]);
    let said = check(&workshop, &[&classifier, "objective={kind=\"reward\"}"]);
    assert_says!(said, "a reward is one score, and the head gives 3");
    let model = golden::path("classifiers/llama").display().to_string();
    let said = workshop.fail(&["generate", "--model", &model, "--prompt", "Who?"]);
    assert_says!(said, "is a sequence classifier: it predicts no tokens");
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The scores of the rows in a file, by a model and perhaps an adapter.
fn scores(workshop: &Workshop, data: &str, model: &str, adapter: Option<&str>) -> Vec<Value> {
    let mut arguments = vec!["score", "--model", model, "--data", data, "--out", "scores.jsonl"];
    arguments.extend(adapter.into_iter().flat_map(|adapter| ["--adapter", adapter]));
    workshop.succeed(&arguments);
    workshop.read_rows("scores.jsonl")
}

fn logits(row: &Value) -> Vec<f32> {
    row["logits"].as_array().unwrap().iter().map(|score| score.as_f64().unwrap() as f32).collect()
}

fn near(left: &[Value], right: &[Value], bound: f32) {
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        let apart = tensors::largest_difference(&logits(left), &logits(right));
        assert!(apart < bound, "{apart:e}: {left} {right}");
    }
}

#[test]
fn names_of_classes_go_from_the_rows_to_every_file() {
    let workshop = workshop(&tickets());
    workshop.succeed(&["train", "classify.toml"]);
    let sorted = json!(["account", "payment", "return"]);
    let resolved: toml::Table = fs::read_to_string(workshop.path("run/recipe.toml")).unwrap().parse().unwrap();
    assert_eq!(json!(resolved["objective"]["labels"]), sorted);
    assert_eq!(resolved["objective"]["problem"].as_str(), Some("single"));
    assert_eq!(json!(resolved["adapter"]["modules_to_save"]), json!(["score"]));
    let adapter = json_of(&workshop.path("run/adapter/adapter_config.json"));
    assert_eq!((&adapter["task_type"], &adapter["modules_to_save"]), (&json!("SEQ_CLS"), &json!(["score"])));
    let beside = json_of(&workshop.path("run/adapter/firebrand.json"));
    assert_eq!(beside["classes"]["labels"], sorted);
    let config = json_of(&workshop.path("run/model/config.json"));
    assert_eq!(config["architectures"], json!(["LlamaForSequenceClassification"]));
    assert_eq!(config["id2label"], json!({"0": "account", "1": "payment", "2": "return"}));
    assert_eq!(config["label2id"], json!({"account": 0, "payment": 1, "return": 2}));
    assert_eq!(config["problem_type"], "single_label_classification");
    assert_eq!(config["pad_token_id"], tiny::END_ID);
    let weights = tensors::read_folder(&workshop.path("run/model"));
    assert_eq!(weights["score.weight"].shape[0], 3);
    assert!(!weights.contains_key("lm_head.weight"));
    let step: Value = workshop.read_rows("run/metrics.jsonl")[0].clone();
    assert!(step["accuracy"].is_f64() && step["f1"].is_f64(), "{step}");

    // Adapter and merged model say the same, and both know the names.
    let adapted = scores(&workshop, "rows.jsonl", "model", Some("run/adapter"));
    near(&adapted, &scores(&workshop, "rows.jsonl", "run/model", None), 1e-4);
    assert!(adapted.iter().all(|row| row["loss"].is_f64() && row["label"].is_string()), "{:?}", adapted[0]);
    let eval = |more: &[&str]| -> Value {
        let said = workshop.succeed(&[&["eval", "--data", "rows.jsonl", "--json", "--model"], more].concat());
        serde_json::from_str(&said.stdout).unwrap()
    };
    let (one, other) = (eval(&["model", "--adapter", "run/adapter"]), eval(&["run/model"]));
    assert_eq!((&one["accuracy"], &one["f1"], &one["rows"]), (&other["accuracy"], &other["f1"], &json!(9)));
    workshop.write_rows("rows.jsonl", &[json!({"text": "Is it?", "label": "delivery"})]);
    let said = workshop.fail(&["eval", "--data", "rows.jsonl", "--model", "run/model"]);
    assert_says!(said, "rows.jsonl:1", "one of the classes: \"account\"");
    let said = workshop.succeed(&["inspect", "run/model"]);
    assert_says!(said.stdout, "no output head", "3 of single_label_classification: account, payment, return");

    // A run that goes on from either keeps the names and their numbers.
    workshop.write_rows("rows.jsonl", &[json!({"text": "a", "label": "return"}), json!({"text": "b", "label": 0})]);
    for (output, settings) in
        [("from-adapter", "adapter.init_from=\"run/adapter\""), ("from-model", "model=\"run/model\"")]
    {
        workshop.succeed(&["train", "classify.toml", "--output", output, "--set", settings]);
        let resolved: toml::Table =
            fs::read_to_string(workshop.path(&format!("{output}/recipe.toml"))).unwrap().parse().unwrap();
        assert_eq!(json!(resolved["objective"]["labels"]), sorted, "{output}");
    }
}

#[test]
fn the_padding_of_the_tokenizer_is_where_texts_are_read() {
    let workshop = workshop(&tickets());
    workshop.succeed(&["train", "classify.toml", "--set", "train.steps=1"]);
    // The end token is the padding: with it or without, or twice, a text is read at its last word.
    let encoded = scores(&workshop, "rows.jsonl", "run/model", None);
    let ids = |row: &Value| -> Vec<u32> { serde_json::from_value(row["tokens"].clone()).unwrap() };
    assert!(encoded.iter().all(|row| ids(row).last() == Some(&tiny::END_ID)));
    let without = |row: &Value| {
        let ids = ids(row);
        json!({"input_ids": &ids[..ids.len() - 1]})
    };
    workshop.write_rows("without.jsonl", &encoded.iter().map(without).collect::<Vec<_>>());
    let twice = |row: &Value| {
        let ids = [ids(row), vec![tiny::END_ID]].concat();
        json!({ "input_ids": ids })
    };
    workshop.write_rows("twice.jsonl", &encoded.iter().map(twice).collect::<Vec<_>>());
    for file in ["without.jsonl", "twice.jsonl"] {
        near(&encoded, &scores(&workshop, file, "run/model", None), 1e-5);
    }
    // The adapter remembers it, although the base's configuration has no padding.
    near(&encoded, &scores(&workshop, "without.jsonl", "model", Some("run/adapter")), 1e-4);

    // Where padding and end are two tokens, the end is read.
    tiny::write_tokenizer_config(&workshop.path("model"), &json!({"pad_token": "<pad>"}));
    let output = ["train", "classify.toml", "--output", "other", "--set", "train.steps=1"];
    workshop.succeed(&output);
    assert_eq!(json_of(&workshop.path("other/model/config.json"))["pad_token_id"], 0);
    let encoded = scores(&workshop, "rows.jsonl", "other/model", None);
    let other = scores(&workshop, "without.jsonl", "other/model", None);
    assert!(tensors::largest_difference(&logits(&encoded[0]), &logits(&other[0])) > 1e-4);
}

#[test]
fn a_quantized_base_has_a_head_in_full_precision() {
    let workshop = workshop(&tickets());
    for (output, kind) in [("nf4", "quantization={kind=\"nf4\",block=32}"), ("int8", "quantization={kind=\"int8\"}")] {
        let settings = ["--set", kind, "--set", "adapter.kind=dora", "--set", "export.merge=false"];
        workshop.succeed(&[&["train", "classify.toml", "--output", output], &settings[..]].concat());
        let file = tensors::read(&workshop.path(&format!("{output}/adapter/adapter_model.safetensors")));
        assert_eq!(file["base_model.model.score.weight"].shape[0], 3, "{output}");
        let rows = scores(&workshop, "rows.jsonl", "model", Some(&format!("{output}/adapter")));
        assert!(rows.iter().all(|row| logits(row).iter().all(|score| score.is_finite())), "{output}");
    }
    // Another seed draws another head, the same seed the same.
    let head = |output: &str, seed: &str| {
        let settings = ["--set", "optimizer.learning_rate=1e-30", "--set", seed, "--set", "export.merge=false"];
        workshop.succeed(&[&["train", "classify.toml", "--output", output], &settings[..]].concat());
        let file = tensors::read(&workshop.path(&format!("{output}/adapter/adapter_model.safetensors")));
        file["base_model.model.score.weight"].clone()
    };
    let (one, same, other) = (head("one", "seed=1"), head("same", "seed=1"), head("other", "seed=2"));
    assert!(one == same && one != other);
}

/// Runs a recipe of the repository, and gives the last line of its metrics that is an evaluation.
fn recipe(workshop: &Workshop, name: &str) -> Value {
    let path = repository().join("recipes/objectives").join(name).display().to_string();
    let run = workshop.path("run").display().to_string();
    let mut command = workshop.command(&["train", &path, "--output", &run]);
    let said = command.current_dir(repository()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    workshop.read_rows("run/metrics.jsonl").into_iter().rfind(|row| row.get("eval_loss").is_some()).unwrap()
}

#[test]
fn the_recipe_of_a_classifier_tells_tickets_apart_that_it_never_saw() {
    let workshop = Workshop::new();
    let evaluated = recipe(&workshop, "classify.toml");
    let accuracy = evaluated["eval_accuracy"].as_f64().unwrap();
    // Four topics: a guess is right in a quarter of the cases.
    assert!(accuracy >= 0.75, "{evaluated}");
    let data = repository().join("recipes/data/tickets-eval.jsonl").display().to_string();
    let said = workshop.succeed(&["eval", "--model", "run/model", "--data", &data, "--json"]);
    let measured: Value = serde_json::from_str(&said.stdout).unwrap();
    assert!((measured["accuracy"].as_f64().unwrap() - accuracy).abs() < 0.13, "{measured} {evaluated}");
}

#[test]
fn the_recipe_of_a_reward_model_prefers_manners_that_it_never_saw() {
    let workshop = Workshop::new();
    let evaluated = recipe(&workshop, "reward.toml");
    assert_eq!(evaluated["eval_rewards/accuracies"], 1.0, "{evaluated}");
    assert!(evaluated["eval_rewards/margins"].as_f64().unwrap() > 1.0, "{evaluated}");
    let data = repository().join("recipes/data/manners-eval.jsonl").display().to_string();
    for pair in scores(&workshop, &data, "run/model", None).chunks(2) {
        let parts = [&pair[0]["part"], &pair[1]["part"]];
        assert_eq!(parts, [&json!("chosen"), &json!("rejected")]);
        assert!(logits(&pair[0])[0] > logits(&pair[1])[0], "{pair:?}");
    }
    let said = workshop.succeed(&["eval", "--model", "run/model", "--data", &data, "--json"]);
    let measured: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&measured["rewards/accuracies"], &measured["pairs"]), (&json!(1.0), &json!(4)));
}
