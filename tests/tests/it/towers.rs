//! Towers on the command line: trained, resumed, merged, scored, and refused where they are asked for what they are not.

use std::fs;

use firebrand_tests::{golden, pairs, tensors};
use serde_json::Value;

use crate::workshop::{Workshop, assert_says, words};

const STEPS: usize = 8;

const RECIPE: &str = r#"model = "towers"
output = "run"
seed = 7

[adapter]
kind = "lora"
rank = 4
alpha = 8.0
dropout = 0.1
targets = "all-linear"

[[data.train]]
path = "train.jsonl"
[[data.eval]]
path = "eval.jsonl"

[train]
steps = 8
batch_size = 6
micro_batch_size = 2

[optimizer]
learning_rate = 1e-2
[schedule]
kind = "cosine"
warmup_steps = 2

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

fn workshop() -> Workshop {
    let workshop = Workshop::new();
    pairs::write_model(&workshop.path("towers"));
    pairs::write_rows(&workshop.path("train"), 0, 40);
    pairs::write_rows(&workshop.path("eval"), 40, 52);
    workshop.write("recipe.toml", RECIPE);
    let (before, after) = (RECIPE.find("[adapter]").unwrap(), RECIPE.find("[[data.train]]").unwrap());
    let full = format!("{}{}", &RECIPE[..before], &RECIPE[after..]).replace("[export]\nmerge = true\n", "");
    workshop.write("full.toml", &full);
    workshop
}

/// What of the log must not depend on interruptions.
fn log(workshop: &Workshop, output: &str) -> Vec<Value> {
    let mut lines = workshop.read_rows(&format!("{output}/metrics.jsonl"));
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.retain(|key, _| key != "elapsed_seconds" && !key.ends_with("per_second"));
    }
    lines
}

#[test]
fn a_run_of_towers_resumes_to_the_same_bytes() {
    let workshop = workshop();
    for (recipe, weights, end) in [
        ("recipe.toml", "adapter_model.safetensors", "adapter/adapter_model.safetensors"),
        ("full.toml", "model.safetensors", "model/model.safetensors"),
    ] {
        let (whole, parts) = (format!("{recipe}-whole"), format!("{recipe}-parts"));
        workshop.succeed(&["train", recipe, "--output", &whole]);
        workshop.succeed(&["train", recipe, "--output", &parts]);
        workshop.succeed(&["train", recipe, "--output", &parts, "--resume", "checkpoint-4"]);
        assert_eq!(log(&workshop, &whole), log(&workshop, &parts), "{recipe}: the log reads as one run");
        let checkpoint = |file: &str| format!("checkpoint-{STEPS}/{file}");
        for file in [end.to_string(), checkpoint(weights), checkpoint("optimizer.safetensors")] {
            let same = workshop.read(&format!("{whole}/{file}")) == workshop.read(&format!("{parts}/{file}"));
            assert!(same, "{recipe}: {file} has other bytes");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_byte() {
    let workshop = workshop();
    let run = |threads: &str| {
        let output = format!("threads-{threads}");
        let mut command = workshop.command(&["train", "full.toml", "--output", &output]);
        assert!(command.env("RAYON_NUM_THREADS", threads).output().unwrap().status.success());
        workshop.read(&format!("{output}/model/model.safetensors"))
    };
    let one = run("1");
    assert!(["2", "5"].iter().all(|threads| run(threads) == one));
}

#[test]
fn what_a_run_of_towers_leaves_can_be_used() {
    let workshop = workshop();
    let check = workshop.succeed(&["check", "recipe.toml", "--json"]);
    let report: Value = serde_json::from_str(&check.stdout).unwrap();
    assert!(report["trained_parameters"].as_u64().unwrap() > 0, "{report}");
    let longer = ["--set", "train.steps=60", "--set", "train.batch_size=8", "--set", "adapter.dropout=0.0"];
    workshop.succeed(&[&["train", "recipe.toml"], &longer[..]].concat());
    let lines = workshop.read_rows("run/metrics.jsonl");
    let evals: Vec<f64> = lines.iter().filter_map(|line| line["eval_loss"].as_f64()).collect();
    assert!(*evals.last().unwrap() < 0.8 * evals.first().unwrap(), "{evals:?}");
    for file in ["config.json", "preprocessor_config.json"] {
        assert!(workshop.path(&format!("run/model/{file}")).exists(), "{file} stands beside the weights");
    }

    // The adapter on its base and the merged folder are one model.
    let score = |name: &str, model: &[&str]| {
        let out = format!("{name}.jsonl");
        workshop.succeed(&[&["score", "--data", "eval.jsonl", "--out", &out], model].concat());
        workshop.read_rows(&out)
    };
    let base = score("base", &["--model", "towers"]);
    let adapted = score("adapted", &["--model", "towers", "--adapter", "run/adapter"]);
    let merged = score("merged", &["--model", "run/model"]);
    let numbers = |row: &Value| row["image_embeds"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
    let embeddings = |rows: &[Value]| rows.iter().map(numbers).collect::<Vec<Vec<f64>>>().concat();
    let apart = |left: &[f64], right: &[f64]| {
        left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f64::max)
    };
    let (base, adapted, merged) = (embeddings(&base), embeddings(&adapted), embeddings(&merged));
    assert_eq!(adapted.len(), 12 * 10);
    assert!(apart(&adapted, &merged) < 1e-5, "{adapted:?} {merged:?}");
    assert!(apart(&adapted, &base) > 1e-2, "{adapted:?} {base:?}");

    let eval = |model: &[&str]| -> Value {
        let said = workshop.succeed(&[&["eval", "--data", "eval.jsonl", "--json"], model].concat());
        serde_json::from_str(&said.stdout).unwrap()
    };
    let (of_base, of_merged) = (eval(&["--model", "towers"]), eval(&["--model", "run/model"]));
    assert!(of_merged["loss"].as_f64().unwrap() < of_base["loss"].as_f64().unwrap(), "{of_base} {of_merged}");
    let logged = evals.last().unwrap();
    assert!((of_merged["loss"].as_f64().unwrap() - logged).abs() < 1e-4 * logged, "{of_merged}: {logged} was logged");

    workshop.succeed(&["merge", "--model", "towers", "--adapter", "run/adapter", "--out", "again"]);
    let (one, other) =
        (tensors::read_folder(&workshop.path("run/model")), tensors::read_folder(&workshop.path("again")));
    assert_eq!(one, other);
    for of in ["towers", "run/model", "run/adapter", "run/checkpoint-60"] {
        workshop.succeed(&["inspect", of]);
    }
    let shown = workshop.succeed(&["inspect", "towers"]).stdout;
    assert_says!(words(&shown), "clip");
}

#[test]
fn new_towers_learn() {
    let workshop = workshop();
    let random = ["train", "full.toml", "--set", "init=\"random\"", "--set", "train.steps=30"];
    workshop.succeed(&random);
    let lines = workshop.read_rows("run/metrics.jsonl");
    let losses: Vec<f64> = lines.iter().filter_map(|line| line["loss"].as_f64()).collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[26..]) < 0.6 * mean(&losses[..4]), "{losses:?}");
}

#[test]
fn an_objective_of_another_kind_of_model_is_refused_where_it_stands() {
    let workshop = workshop();
    // Refused by the configuration alone: there are no weights to load.
    fs::remove_file(workshop.path("towers/model.safetensors")).unwrap();
    fs::remove_file(workshop.path("model/model.safetensors")).unwrap();
    for command in ["train", "check"] {
        let said = workshop.fail(&[command, "recipe.toml", "--set", "objective.kind=\"sft\""]);
        assert_says!(&said, "objective sft does not train a model of type clip", "kind = \"contrastive\"");
        let of_decoder =
            [command, "recipe.toml", "--set", "model=\"model\"", "--set", "objective.kind=\"contrastive\""];
        let said = workshop.fail(&of_decoder);
        assert_says!(&said, "objective contrastive does not train a model of type llama", "kind = \"sft\"");
    }
}

#[test]
fn what_towers_cannot_do_is_said_in_a_sentence() {
    let workshop = workshop();
    let said = workshop.fail(&["generate", "--model", "towers", "--prompt", "A cat"]);
    assert_says!(&said, "clip");
    let said = workshop.fail(&["train", "recipe.toml", "--set", "sample.prompts=[\"A cat\"]"]);
    assert_says!(&said, "sample", "writes no text");
    let said =
        workshop.fail(&["train", "recipe.toml", "--set", "train.batch_size=1", "--set", "train.micro_batch_size=1"]);
    assert_says!(&said, "batch_size = 2 or more");
    let said = workshop.fail(&["train", "recipe.toml", "--set", "data.train=[{path=\"data.jsonl\"}]"]);
    assert_says!(&said, "rows with text need a tokenizer", "`tensors`");
    pairs::write_rows(&workshop.path("single"), 0, 1);
    for key in ["train", "eval"] {
        let single = format!("data.{key}=[{{path=\"single.jsonl\"}}]");
        let said = workshop.fail(&["check", "recipe.toml", "--set", &single]);
        assert_says!(&said, "single.jsonl:1", "the only pair", "at least two rows");
    }
    let learn = "objective={kind=\"contrastive\",learn_temperature=true}";
    assert_says!(workshop.fail(&["train", "recipe.toml", "--set", learn]), "learn_temperature");
    let adapter = golden::path("towers/lora-clip-quick-gelu").display().to_string();
    let said =
        workshop.fail(&["merge", "--model", "towers", "--adapter", &adapter, "--dtype", "nf4", "--out", "small"]);
    assert_says!(&said, "folders of clip are not written in nf4");
    let early = workshop.fail(&["check", "recipe.toml", "--set", "export.dtype=\"nf4\""]);
    assert_says!(&early, "export.dtype", "folders of clip are not written in nf4");
}

#[test]
fn what_is_odd_about_a_run_of_towers_is_noted() {
    let workshop = workshop();
    let config = String::from_utf8(workshop.read("towers/config.json")).unwrap();
    let dropout = config.replacen("\"attention_dropout\": 0.0", "\"attention_dropout\": 0.1", 1);
    workshop.write("towers/config.json", &dropout);
    let check = workshop.succeed(&[
        "check",
        "recipe.toml",
        "--json",
        "--set",
        "train.batch_size=13",
        "--set",
        "train.micro_batch_size=13",
    ]);
    let report: Value = serde_json::from_str(&check.stdout).unwrap();
    let notes = report["notes"].to_string();
    assert_says!(&notes, "text_config.attention_dropout", "the last step of an epoch has one pair");
}

#[test]
fn a_row_that_a_tower_cannot_read_is_named_before_training() {
    let workshop = workshop();
    let ids = |ids: &[i64]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
    let pixels = |count: usize| vec![0_u8; 4 * count];
    let (image, text) =
        (("pixel_values", "F32", vec![3, 12, 12], pixels(432)), ("input_ids", "I64", vec![2], ids(&[0, 60])));
    for (row, says) in [
        (vec![text.clone()], "pixel_values"),
        (vec![image.clone()], "input_ids"),
        (vec![("pixel_values", "F32", vec![3, 8, 8], pixels(192)), text.clone()], "12"),
        (vec![image.clone(), ("input_ids", "I64", vec![2], ids(&[0, 61]))], "61"),
        (vec![image.clone(), ("input_ids", "I64", vec![17], ids(&[5; 17]))], "16"),
        (vec![image.clone(), ("input_ids", "I64", vec![2], ids(&[-1, 60]))], "-1"),
    ] {
        fs::write(workshop.path("train/13.safetensors"), pairs::file(&row)).unwrap();
        for command in ["train", "check"] {
            let said = workshop.fail(&[command, "recipe.toml"]);
            assert_says!(&said, "train.jsonl:14", "13.safetensors", says);
        }
    }
}
