//! The program as others meet it: its verbs on tiny inputs, its exit codes, and one clear message for every mistake.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use clap::CommandFactory;
use firebrand::cli::Cli;
use firebrand_tests::tiny;
use serde_json::{Value, json};

use crate::workshop::{RECIPE, Said, Workshop, assert_says, chat_row};

#[test]
fn every_verb_has_help_with_an_example() {
    let workshop = Workshop::new();
    let verbs: Vec<String> = Cli::command().get_subcommands().map(|verb| verb.get_name().to_string()).collect();
    for verb in ["train", "check", "data", "eval", "score", "generate", "merge", "inspect", "selftest", "schema"] {
        assert!(verbs.iter().any(|known| known == verb), "{verb} is missing");
    }
    for verb in &verbs {
        let said = workshop.succeed(&[verb, "--help"]);
        assert!(said.stdout.contains("Example") && said.stdout.contains(&format!("firebrand {verb}")), "{verb}");
    }
    assert!(!verbs.iter().any(|verb| verb == "export"), "not there yet, so not offered");
}

#[test]
fn misuse_is_exit_code_2() {
    let workshop = Workshop::new();
    for arguments in [
        &["fly"][..],
        &["train"],
        &["train", "recipe.toml", "--speed"],
        &["train", "recipe.toml", "--ui", "hologram"],
        &["generate", "--model", "model"],
        &["generate", "--model", "model", "--prompt", "a", "--chat"],
        &["merge", "--model", "model"],
        &["eval", "--model", "model", "--data", "data.jsonl", "--device", "abacus"],
        &[],
    ] {
        assert_eq!(workshop.run(arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let workshop = Workshop::new();
    assert_says!(workshop.fail(&["train", "nowhere.toml"]), "nowhere.toml", "check the path");
    workshop.write("recipe.toml", &RECIPE.replace("data.jsonl", "gone.jsonl"));
    let line = 1 + RECIPE.lines().position(|line| line.contains("data.jsonl")).unwrap();
    assert_says!(workshop.fail(&["train", "recipe.toml"]), "gone.jsonl", &format!("recipe.toml:{line}"));
    workshop.write("recipe.toml", &RECIPE.replace("\"model\"", "\"./nomodel\""));
    assert_says!(workshop.fail(&["check", "recipe.toml"]), "nomodel", "recipe.toml:1");
    workshop.write("recipe.toml", &RECIPE.replace("kind = \"lora\"", "kind = \"lora\"\ntargets = [\"c_attn\"]"));
    let message = workshop.fail(&["train", "recipe.toml"]);
    assert_says!(message, "c_attn", "q_proj", "recipe.toml:7", "all-linear");
    for arguments in [
        &["score", "--model", "model", "--data", "none.jsonl", "--out", "out.jsonl"][..],
        &["eval", "--model", "model", "--data", "none.jsonl"],
        &["generate", "--model", "model", "--data", "none.jsonl"],
        &["inspect", "none.jsonl"],
    ] {
        assert_says!(workshop.fail(arguments), "none.jsonl");
    }
    let adapter = ["eval", "--model", "model", "--adapter", "none", "--data", "data.jsonl"];
    assert_says!(workshop.fail(&adapter), "none/adapter_config.json");
    assert!(!workshop.path("run").exists(), "a run that never began leaves nothing");
}

#[test]
fn a_broken_row_is_named_by_file_and_line() {
    let workshop = Workshop::new();
    for (broken, what) in [
        ("{\"messages\": [", "no JSON"),
        ("[1, 2]", "one JSON object a line"),
        ("{\"messages\": [{\"role\": \"user\"}]}", "content"),
    ] {
        workshop.write("data.jsonl", &format!("{}\n\n{broken}\n{}\n", chat_row(0), chat_row(1)));
        for verb in ["train", "check", "data"] {
            assert_says!(workshop.fail(&[verb, "recipe.toml"]), "data.jsonl:3", what);
        }
    }
    assert!(!workshop.path("run").exists());
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let workshop = Workshop::new();
    workshop.write("file", "");
    assert_says!(workshop.fail(&["train", "recipe.toml", "--output", "file"]), "file", "a file is in the way");
    assert_says!(workshop.fail(&["train", "recipe.toml", "--output", "file/run"]), "file/run");
    fs::create_dir(workshop.path("full")).unwrap();
    workshop.write("full/letter", "mine");
    let message = workshop.fail(&["train", "recipe.toml", "--output", "full"]);
    assert_says!(message, "full", "not empty", "--output");
    assert_eq!(workshop.list("full"), ["letter"]);
    if cfg!(target_os = "linux") {
        // Read-only for everybody, the superuser too.
        let message = workshop.fail(&["train", "recipe.toml", "--output", "/sys/firebrand"]);
        assert_says!(message, "/sys/firebrand", "cannot write");
        let merge = ["merge", "--model", "model", "--adapter", "run/adapter", "--out", "/sys/firebrand"];
        workshop.succeed(&["train", "recipe.toml"]);
        assert_says!(workshop.fail(&merge), "/sys");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_says_so() {
    use std::os::unix::fs::FileTypeExt;
    let workshop = Workshop::new();
    let score = ["score", "--model", "model", "--data", "data.jsonl", "--out", "/dev/full"];
    assert_says!(workshop.fail(&score), "/dev/full", "No space left");
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device(), "the device is still one");
    // A pipe or device is written to, and not replaced by a file.
    let score = ["score", "--model", "model", "--data", "data.jsonl", "--out", "/dev/stdout"];
    assert_eq!(workshop.succeed(&score).stdout.lines().count(), 10);
}

#[test]
fn a_device_that_is_not_compiled_in_names_the_feature() {
    let workshop = Workshop::new();
    for (device, feature) in [("cuda", "cuda"), ("cuda:1", "cuda"), ("vulkan", "vulkan"), ("rocm", "rocm")] {
        let message = workshop.fail(&["train", "recipe.toml", "--device", device]);
        assert_says!(message, device, "not compiled", &format!("--features {feature}"));
        let message = workshop.fail(&["eval", "--model", "model", "--data", "data.jsonl", "--device", device]);
        assert_says!(message, &format!("--features {feature}"));
    }
    workshop.write("recipe.toml", &format!("device = \"coda\"\n{RECIPE}"));
    assert_says!(workshop.fail(&["check", "recipe.toml"]), "coda", "recipe.toml:1");
}

#[test]
fn int8_is_refused_as_a_format_of_files() {
    let merge = ["merge", "--model", "model", "--adapter", "adapter", "--out", "merged", "--dtype", "int8"];
    let said = Workshop::new().run(&merge);
    assert_eq!(said.code, Some(2));
    assert_says!(said.stderr, "--dtype", "no reader has names in files for blockwise int8", "nf4");
}

#[test]
fn token_ids_outside_the_vocabulary_are_refused() {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &[json!({"input_ids": [1, 2]}), json!({"input_ids": [3, 97, 4]})]);
    for arguments in [
        &["train", "recipe.toml"][..],
        &["check", "recipe.toml"],
        &["eval", "--model", "model", "--data", "data.jsonl"],
        &["score", "--model", "model", "--data", "data.jsonl", "--out", "out.jsonl"],
    ] {
        assert_says!(workshop.fail(arguments), "data.jsonl:2", "97");
    }
    assert_says!(workshop.fail(&["generate", "--model", "model", "--data", "data.jsonl"]), "data.jsonl:2", "97");
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let workshop = Workshop::new();
    let mut weights = workshop.read("model/model.safetensors");
    let end = weights.len();
    weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(workshop.path("model/model.safetensors"), &weights).unwrap();
    assert_says!(workshop.fail(&["train", "recipe.toml"]), "model.safetensors", "NaN", "model.");
    fs::write(workshop.path("model/model.safetensors"), &weights[..end / 2]).unwrap();
    assert_says!(workshop.fail(&["train", "recipe.toml"]), "model.safetensors");
}

#[test]
fn check_says_what_a_run_would_do() {
    let workshop = Workshop::new();
    let said = workshop.succeed(&["check", "recipe.toml", "--json"]);
    let report: Value = serde_json::from_str(said.stdout.trim()).unwrap();
    assert_eq!((&report["ok"], &report["rows"], &report["steps"]), (&json!(true), &json!(10), &json!(3)));
    assert_eq!(report["adapted_modules"].as_array().unwrap().len(), 14);
    assert!(report["memory_total"].as_u64().unwrap() > 4 * 18_780);
    assert!(!workshop.path("run").exists());
    workshop.write("wrong.toml", &RECIPE.replace("rank", "rnak"));
    let said = workshop.run(&["check", "recipe.toml", "wrong.toml"]);
    assert_eq!(said.code, Some(1), "one wrong recipe of two");
    assert!(said.stdout.contains("recipe.toml: ok") && said.stderr.contains("rnak"));
}

#[test]
fn train_leaves_what_the_contract_names() {
    let workshop = Workshop::new();
    workshop.write("recipe.toml", &RECIPE.replace("tensorboard = false", "tensorboard = true\n[export]\nmerge = true"));
    let said = workshop.succeed(&["train", "recipe.toml"]);
    assert_says!(&said.stdout, "run/adapter", "run/model", "KL(adapter || merged)", "run/tensorboard");
    let names = workshop.list("run");
    for name in ["adapter", "checkpoint-3", "metrics.jsonl", "model", "recipe.toml", "run.json", "tensorboard"] {
        assert!(names.iter().any(|there| there == name), "{name} is not in {names:?}");
    }
    let checkpoint = workshop.list("run/checkpoint-3");
    for name in ["adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors"] {
        assert!(checkpoint.iter().any(|there| there == name), "{name} is not in {checkpoint:?}");
    }
    for name in ["trainer_state.json", "state.json", "manifest.json"] {
        assert!(checkpoint.iter().any(|there| there == name), "{name} is not in {checkpoint:?}");
    }
    let lines = workshop.read_rows("run/metrics.jsonl");
    assert_eq!(lines.len(), 3);
    for key in ["step", "loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second"] {
        assert!(lines[0][key].is_number(), "{key} is not in {}", lines[0]);
    }
    // The resolved recipe is a recipe, and the same one.
    workshop.succeed(&["train", "run/recipe.toml", "--output", "again"]);
    let adapter = "adapter/adapter_model.safetensors";
    assert!(workshop.read(&format!("run/{adapter}")) == workshop.read(&format!("again/{adapter}")));
    let model = workshop.list("run/model");
    for name in
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    {
        assert!(model.iter().any(|there| there == name), "{name} is not in {model:?}");
    }
    let config: Value = serde_json::from_slice(&workshop.read("run/model/tokenizer_config.json")).unwrap();
    assert_eq!(config["chat_template"].as_str().unwrap().as_bytes(), workshop.read("run/model/chat_template.jinja"));
}

#[test]
fn merge_writes_a_whole_folder_and_a_receipt() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml"]);
    for (dtype, kl) in [("f32", 1e-9), ("bf16", 1e-2), ("f16", 1e-4)] {
        let merge =
            ["merge", "--model", "model", "--adapter", "run/adapter", "--out", dtype, "--dtype", dtype, "--json"];
        let said = workshop.succeed(&merge);
        let receipt: Value = serde_json::from_str(said.stdout.trim()).unwrap();
        assert!(receipt["kl"].as_f64().unwrap() < kl, "{receipt}");
        assert!(receipt["top1_agreement"].as_f64().unwrap() > 0.9, "{receipt}");
        assert!(receipt["largest_logit_difference"].is_number());
        let config: Value = serde_json::from_slice(&workshop.read(&format!("{dtype}/config.json"))).unwrap();
        let name = match dtype {
            "bf16" => "bfloat16",
            "f16" => "float16",
            _ => "float32",
        };
        assert_eq!(config["dtype"], name);
    }
    let evaluate = |arguments: &[&str]| -> f64 {
        let said = workshop.succeed(&[&["eval", "--data", "data.jsonl", "--json"], arguments].concat());
        serde_json::from_str::<Value>(&said.stdout).unwrap()["loss"].as_f64().unwrap()
    };
    let adapted = evaluate(&["--model", "model", "--adapter", "run/adapter"]);
    let merged = evaluate(&["--model", "f32"]);
    assert!((adapted - merged).abs() < 1e-5 * adapted, "{adapted} {merged}");
    assert!((evaluate(&["--model", "model"]) - adapted).abs() > 1e-3, "the lesson is in the merged model");
    let again = ["merge", "--model", "model", "--adapter", "run/adapter", "--out", "f32"];
    assert_says!(workshop.fail(&again), "not empty");
}

#[test]
fn generate_answers_prompts_files_and_dialogues() {
    let workshop = Workshop::new();
    let said = workshop.succeed(&["generate", "--model", "model", "--prompt", "once", "--max-new-tokens", "5"]);
    assert!(said.stdout.starts_with("once"));
    let rows = [chat_row(0), json!({"prompt": "once"}), json!({"input_ids": [41, 31, 6]})];
    workshop.write_rows("ask.jsonl", &rows);
    let ask = ["generate", "--model", "model", "--data", "ask.jsonl", "--max-new-tokens", "5"];
    let answers: Vec<Value> =
        workshop.succeed(&ask).stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 3);
    for answer in &answers {
        let length = answer["output_ids"].as_array().unwrap().len();
        assert!(length == 5 && answer["finish"] == "length" || length < 5 && answer["finish"] == "stop", "{answer}");
    }
    let draw = |seed: &str| {
        let more = ["--temperature", "2.0", "--top-p", "0.95", "--seed", seed];
        workshop.succeed(&[&ask[..], &more[..]].concat()).stdout
    };
    assert_eq!(draw("1"), draw("1"), "the same seed draws the same");
    assert_ne!(draw("1"), draw("2"));

    let wrong = ["generate", "--model", "model", "--prompt", "a", "--temperature=-1"];
    assert_says!(workshop.fail(&wrong), "--temperature");
}

#[test]
fn a_chat_remembers_the_dialogue() {
    let workshop = Workshop::new();
    let ask = |messages: &Value| -> String {
        workshop.write_rows("ask.jsonl", &[json!({"messages": messages})]);
        let arguments = ["generate", "--model", "model", "--data", "ask.jsonl", "--max-new-tokens", "6"];
        let said = workshop.succeed(&arguments);
        serde_json::from_str::<Value>(&said.stdout).unwrap()["text"].as_str().unwrap().to_string()
    };
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let first = ask(&json!([turn("user", "Is it 1?")]));
    let dialogue = json!([turn("user", "Is it 1?"), turn("assistant", first.trim()), turn("user", "Is it 2?")]);
    let (second, forgotten) = (ask(&dialogue), ask(&json!([turn("user", "Is it 2?")])));
    assert_ne!(second, forgotten, "the dialogue matters");
    let mut command = workshop.command(&["generate", "--model", "model", "--chat", "--max-new-tokens", "6"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Is it 1?\nIs it 2?\n/new\nIs it 2?\n").unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success());
    assert_eq!(String::from_utf8(said.stdout).unwrap(), format!("{first}\n{second}\n{forgotten}\n"));
}

#[test]
fn a_reader_that_goes_away_is_no_crash() {
    let workshop = Workshop::new();
    let rows: Vec<Value> = (0..2000).map(chat_row).collect();
    workshop.write_rows("data.jsonl", &rows);
    for arguments in [&["schema"][..], &["data", "recipe.toml", "--json"], &["completions", "zsh"]] {
        let mut child = workshop.start(arguments);
        drop(child.stdout.take());
        let said = Said::from(child.wait_with_output().unwrap());
        assert!(!said.stderr.contains("panicked"), "{arguments:?}: {}", said.stderr);
    }
}

#[test]
fn rows_of_token_ids_need_no_tokenizer() {
    let workshop = Workshop::new();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs::remove_file(workshop.path("model").join(file)).unwrap();
    }
    // The end token is known all the same: this prompt's continuation in the golden is one longer, and ends with it.
    workshop.write_rows("ask.jsonl", &[json!({"input_ids": [41, 31, 6, 75, 34]})]);
    let said = workshop.succeed(&["generate", "--model", "model", "--data", "ask.jsonl", "--max-new-tokens", "16"]);
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let golden = &firebrand_tests::golden::json("llama-gqa-tied/generate.json")["answers"][0];
    let continuation = golden["continuation"].as_array().unwrap();
    assert_eq!((&golden["prompt"], &answer["finish"]), (&json!([41, 31, 6, 75, 34]), &json!("stop")));
    assert_eq!(answer["output_ids"].as_array().unwrap(), &continuation[..continuation.len() - 1]);
    workshop.write_rows("data.jsonl", &[json!({"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]})]);
    workshop.succeed(&["train", "recipe.toml"]);
    workshop.succeed(&["generate", "--model", "model", "--data", "data.jsonl", "--max-new-tokens", "2"]);
    workshop.succeed(&["score", "--model", "model", "--data", "data.jsonl", "--out", "scores.jsonl"]);
    let rows = workshop.read_rows("scores.jsonl");
    assert_eq!(rows[0]["tokens"], json!([5, 6, 7, 8]));
    assert_eq!(rows[0]["logprobs"].as_array().unwrap().len(), 3);
    workshop.write_rows("data.jsonl", &[chat_row(0)]);
    assert_says!(workshop.fail(&["train", "recipe.toml"]), "tokenizer");
}

#[test]
fn data_shows_rows_as_they_are_trained() {
    let workshop = Workshop::new();
    let said = workshop.succeed(&["data", "recipe.toml", "--json"]);
    let rows: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 10, "all rows, in the order of the file");
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row["source"]["line"], index + 1);
        assert!(row["text"].as_str().unwrap().contains(&format!("Is it {index}?")));
        let length = row["input_ids"].as_array().unwrap().len();
        assert_eq!(
            (row["labels"].as_array().unwrap().len(), row["weights"].as_array().unwrap().len()),
            (length, length)
        );
    }
    let said = workshop.succeed(&["data", "recipe.toml", "--rows", "2"]);
    assert_says!(&said.stdout, "data.jsonl:1", "data.jsonl:2", "user", "assistant", "pack", tiny::END);
    assert!(!said.stdout.contains("data.jsonl:3") && !said.stdout.contains('\x1b'));
}

#[test]
fn inspect_schema_and_completions_speak_to_programs() {
    let workshop = Workshop::new();
    let report: Value = serde_json::from_str(&workshop.succeed(&["inspect", "model", "--json"]).stdout).unwrap();
    assert_eq!((&report["kind"], &report["family"]["model_type"]), (&json!("model"), &json!("llama")));
    let schema: Value = serde_json::from_str(&workshop.succeed(&["schema"]).stdout).unwrap();
    assert_eq!(schema["title"], "firebrand recipe");
    assert!(schema["properties"]["adapter"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        assert!(workshop.succeed(&["completions", shell]).stdout.contains("firebrand"), "{shell}");
    }
}

#[test]
fn pairs_are_shown_and_not_trained_on() {
    let workshop = Workshop::new();
    let pair = |index: usize| json!({"prompt": format!("What is {index}?"), "chosen": " One.", "rejected": " Two."});
    workshop.write_rows("data.jsonl", &(0..4).map(pair).collect::<Vec<_>>());
    for verb in ["train", "check"] {
        assert_says!(workshop.fail(&[verb, "recipe.toml"]), "objective sft", "data.jsonl holds preference pairs");
    }
    let said = workshop.succeed(&["data", "recipe.toml", "--rows", "2"]);
    assert_eq!((said.stdout.matches(", chosen").count(), said.stdout.matches(", rejected").count()), (2, 2));
    let said = workshop.succeed(&["data", "recipe.toml", "--json"]);
    assert_eq!(said.stdout.lines().count(), 8);
    let first: Value = serde_json::from_str(said.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["part"], "chosen");
}

#[test]
fn broken_rows_stop_a_run_or_are_skipped() {
    let workshop = Workshop::new();
    let rows: String = (0..30).map(|index| format!("{}\n", chat_row(index))).collect();
    workshop.write("data.jsonl", &(rows + "{\"messages\": 3}\n"));
    assert_says!(workshop.fail(&["check", "recipe.toml"]), "data.jsonl:31", "data.broken = \"skip\"");
    let said = workshop.succeed(&["check", "recipe.toml", "--set", "data.broken=skip"]);
    assert_says!(&said.stdout, "30 rows", "warning: train data, broken: 1 of 31 rows", "data.jsonl:31");
    let strict = ["check", "recipe.toml", "--set", "data.broken=skip", "--set", "data.gate.allow_broken=0"];
    assert_says!(workshop.fail(&strict), "allow_broken");
}

#[test]
fn a_rank_that_no_matrix_has_is_told() {
    let workshop = Workshop::new();
    assert!(!workshop.succeed(&["check", "recipe.toml"]).stdout.contains("some matrices have"));
    let said = workshop.succeed(&["check", "recipe.toml", "--set", "adapter.rank=64"]).stdout;
    assert_says!(crate::workshop::words(&said), "adapter.rank = 64 is more than some matrices have", "k_proj`: ");
}
