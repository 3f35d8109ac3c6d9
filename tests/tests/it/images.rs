//! Classifiers of images on the command line: trained, resumed, merged, scored, and refused where rows or targets do not fit.

use std::fs;

use firebrand_tests::{golden, pairs, tensors};
use serde_json::{Value, json};

use crate::workshop::{Workshop, assert_says, words};

const RECIPE: &str = r#"model = "base"
output = "run"
seed = 7

[adapter]
kind = "lora"
rank = 2
alpha = 4.0
dropout = 0.1
targets = ["query", "fc1"]

[[data.train]]
path = "rows.jsonl"
[[data.eval]]
path = "eval.jsonl"

[objective]
kind = "classify"
labels = ["daisy", "rose", "tulip", "violet", "yarrow"]

[train]
steps = 6
batch_size = 4
micro_batch_size = 2

[optimizer]
learning_rate = 1e-2
[schedule]
kind = "cosine"
warmup_steps = 1

[eval]
every = 3
[checkpoint]
every = 2
keep = 10
[log]
tensorboard = false
[export]
merge = true
"#;

/// A model without a head, some of whose paths are dropped, and rows of several sizes with five classes.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    let copy = |from: &str, to: &str| {
        fs::create_dir_all(workshop.path(to)).unwrap();
        for entry in fs::read_dir(golden::path(from)).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), workshop.path(to).join(entry.file_name())).unwrap();
        }
    };
    copy("images/dinov2-bare", "base");
    let config = String::from_utf8(workshop.read("base/config.json")).unwrap();
    workshop.write("base/config.json", &config.replace("\"drop_path_rate\": 0.0", "\"drop_path_rate\": 0.3"));
    copy("images/trajectory-dinov2-full/rows", ".");
    workshop.write("recipe.toml", RECIPE);
    let (before, after) = (RECIPE.find("[adapter]").unwrap(), RECIPE.find("[[data.train]]").unwrap());
    let full = format!("{}{}", &RECIPE[..before], &RECIPE[after..]).replace("[export]\nmerge = true\n", "");
    workshop.write("full.toml", &full);
    workshop
}

#[test]
fn a_run_with_dropped_paths_resumes_to_the_same_bytes_with_any_number_of_threads() {
    let workshop = workshop();
    for (recipe, weights) in
        [("recipe.toml", "adapter/adapter_model.safetensors"), ("full.toml", "model/model.safetensors")]
    {
        let run = |output: &str, threads: &str, more: &[&str]| {
            let mut command = workshop.command(&[&["train", recipe, "--output", output], more].concat());
            let said = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            workshop.read(&format!("{output}/{weights}"))
        };
        let whole = run(&format!("{recipe}-whole"), "1", &[]);
        let parts = format!("{recipe}-parts");
        run(&parts, "3", &[]);
        assert!(run(&parts, "2", &["--resume", "checkpoint-2"]) == whole, "{recipe}");
        let other = run(&format!("{recipe}-other"), "2", &["--set", "seed=8"]);
        assert!(other != whole, "{recipe}: another seed drops other paths");
    }
}

#[test]
fn a_new_head_and_the_names_of_its_classes_are_in_every_file() {
    let workshop = workshop();
    workshop.succeed(&["train", "recipe.toml"]);
    let adapter: Value = serde_json::from_slice(&workshop.read("run/adapter/adapter_config.json")).unwrap();
    assert_eq!((&adapter["task_type"], &adapter["modules_to_save"]), (&Value::Null, &json!(["classifier"])));
    assert_eq!(adapter["auto_mapping"]["base_model_class"], "Dinov2ForImageClassification");
    // PEFT knows modules by their names in memory.
    assert_eq!(adapter["target_modules"], json!(["q_proj", "fc1"]));
    let config: Value = serde_json::from_slice(&workshop.read("run/model/config.json")).unwrap();
    assert_eq!(config["architectures"], json!(["Dinov2ForImageClassification"]));
    assert_eq!((&config["id2label"]["1"], &config["label2id"]["yarrow"]), (&json!("rose"), &json!(4)));
    assert!(workshop.path("run/model/preprocessor_config.json").exists());
    let weights = tensors::read_folder(&workshop.path("run/model"));
    assert!(weights.keys().all(|name| name.starts_with("dinov2.") || name.starts_with("classifier.")));

    let scores = |name: &str, model: &[&str]| -> Vec<f32> {
        let out = format!("{name}.jsonl");
        workshop.succeed(&[&["score", "--data", "eval.jsonl", "--out", &out], model].concat());
        let logits = |row: &Value| -> Vec<f32> { serde_json::from_value(row["logits"].clone()).unwrap() };
        workshop.read_rows(&out).iter().flat_map(logits).collect()
    };
    let adapted = scores("adapted", &["--model", "base", "--adapter", "run/adapter"]);
    let merged = scores("merged", &["--model", "run/model"]);
    assert_eq!(adapted.len(), 4 * 5);
    assert!(tensors::largest_difference(&adapted, &merged) < 1e-4, "{adapted:?} {merged:?}");
    workshop.succeed(&["merge", "--model", "base", "--adapter", "run/adapter", "--out", "again"]);
    assert_eq!(tensors::read_folder(&workshop.path("again")), weights);
    let said = workshop.succeed(&["eval", "--model", "run/model", "--data", "eval.jsonl", "--json"]);
    let measured: Value = serde_json::from_str(&said.stdout).unwrap();
    assert!(measured["accuracy"].is_f64() && measured["f1"].is_f64() && measured["rows"] == 4, "{measured}");
    for of in ["base", "run/model", "run/adapter", "run/checkpoint-6"] {
        workshop.succeed(&["inspect", of]);
    }
    assert_says!(words(&workshop.succeed(&["inspect", "run/model"]).stdout), "5 classes: daisy, rose");
    assert_says!(words(&workshop.succeed(&["inspect", "base"]).stdout), "classifier none");

    // Other classes take a new head, and the body goes on as it is.
    let labels = "objective.labels=[\"a\",\"b\",\"c\",\"d\",\"e\",\"f\"]";
    let more = ["--set", "model=\"run/model\"", "--set", labels, "--output", "other"];
    workshop.succeed(&[&["train", "recipe.toml"], &more[..]].concat());
    assert_eq!(tensors::read_folder(&workshop.path("other/model"))["classifier.weight"].shape[0], 6);
}

#[test]
fn a_linear_probe_moves_nothing_but_the_head() {
    let workshop = workshop();
    workshop.succeed(&["train", "full.toml", "--set", "train.freeze=[\"^dinov2\"]"]);
    let (before, after) =
        (tensors::read_folder(&workshop.path("base")), tensors::read_folder(&workshop.path("run/model")));
    for (name, values) in &before {
        assert_eq!(after.get(&format!("dinov2.{name}")), Some(values), "{name}");
    }
    assert_eq!(after.len(), before.len() + 2);
    assert!(after["classifier.bias"].values.iter().any(|value| *value != 0.0));
}

#[test]
fn a_row_that_a_classifier_cannot_read_is_named_before_training() {
    let workshop = workshop();
    let label = |number: i64| ("labels", "I64", vec![], number.to_le_bytes().to_vec());
    let pixels =
        |shape: [usize; 3]| ("pixel_values", "F32", shape.to_vec(), vec![0_u8; 4 * shape.iter().product::<usize>()]);
    for (row, says) in [
        (vec![label(1)], "pixel_values"),
        (vec![pixels([3, 16, 16])], "labels"),
        (vec![pixels([1, 16, 16]), label(1)], "[3, height, width]"),
        (vec![pixels([3, 16, 3]), label(1)], "4 pixels"),
        (vec![pixels([3, 16, 16]), label(5)], "5 classes, 0 to 4"),
        (vec![pixels([3, 16, 16]), label(-1)], "number of a class"),
        (vec![pixels([3, 16, 16]), label(1), ("input_ids", "I64", vec![], vec![0; 8])], "input_ids"),
    ] {
        fs::write(workshop.path("006.safetensors"), pairs::file(&row)).unwrap();
        for command in ["train", "check"] {
            let said = workshop.fail(&[command, "recipe.toml"]);
            assert_says!(&said, "rows.jsonl:7", "006.safetensors", says);
        }
    }
}

#[test]
fn what_a_classifier_of_images_cannot_do_is_said_in_a_sentence() {
    let workshop = workshop();
    let fail = |settings: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        workshop.fail(&[&["train", "recipe.toml"], &settings[..]].concat())
    };
    assert_says!(fail(&["objective.problem=multi"]), "objective.problem", "an image is of one class");
    assert_says!(fail(&["sample.prompts=[\"A cat\"]"]), "writes no text");
    assert_says!(fail(&["data.train=[{path=\"data.jsonl\"}]"]), "tensors");
    let gated = format!("model={:?}", golden::path("images/dinov2-swiglu").display().to_string());
    assert_says!(fail(&[&gated, "adapter.targets=all-linear"]), "weights_in", "exclude = [\"weights_in\"]");
    workshop.succeed(&[
        "train",
        "recipe.toml",
        "--set",
        &gated,
        "--set",
        "adapter={kind=\"lora\",rank=2,targets=\"all-linear\",exclude=[\"weights_in\"]}",
    ]);
    for arguments in [&["eval"][..], &["score", "--out", "scores.jsonl"]] {
        let said = workshop.fail(&[arguments, &["--model", "base", "--data", "eval.jsonl"]].concat());
        assert_says!(&said, "the model scores no classes");
    }
    let base = golden::path("images/dinov2").display().to_string();
    assert_says!(workshop.fail(&["generate", "--model", &base, "--prompt", "A cat"]), "image classifier");
}
