//! What people give in place of a model or an adapter: the message says what lies there and what to give instead.

use std::fs;

use firebrand_tests::golden;
use serde_json::{Value, json};

use crate::workshop::{Workshop, assert_says};

const CASE: &str = "adapter-files/pickled";

/// Copies an adapter folder of PEFT into the workshop.
fn copy(workshop: &Workshop, case: &str, name: &str) {
    fs::create_dir_all(workshop.path(name)).unwrap();
    for file in ["adapter_config.json", "adapter_model.bin", "adapter_model.safetensors"] {
        let from = golden::path(case).join(file);
        if from.exists() {
            fs::copy(from, workshop.path(name).join(file)).unwrap();
        }
    }
}

fn eval<'a>(model: &'a str, adapter: &'a str) -> Vec<&'a str> {
    let adapter = if adapter.is_empty() { vec![] } else { vec!["--adapter", adapter] };
    [vec!["eval", "--data", "data.jsonl", "--model", model], adapter].concat()
}

#[test]
fn an_adapter_that_pytorch_saved_works_everywhere() {
    let workshop = Workshop::new();
    copy(&workshop, CASE, "a");
    let loss = |adapter: &str| workshop.succeed(&eval("model", adapter)).stdout;
    assert_ne!(loss("a"), loss(""));
    workshop.succeed(&["score", "--model", "model", "--adapter", "a", "--data", "data.jsonl", "--out", "s.jsonl"]);
    workshop.succeed(&["generate", "--model", "model", "--adapter", "a", "--prompt", "b", "--max-new-tokens", "2"]);
    assert_says!(workshop.succeed(&["inspect", "a"]).stdout, "adapter_model.bin", "rank 2, alpha 3");
    assert_says!(workshop.succeed(&["adapter", "inspect", "a"]).stdout, "q_proj");
    workshop.succeed(&["merge", "--model", "model", "--adapter", "a", "--out", "merged", "--dtype", "f32"]);
    let first = |text: String| text.lines().next().unwrap().to_owned();
    assert_eq!(first(loss("a")), first(workshop.succeed(&eval("merged", "")).stdout));
    // A module trained whole has no sum with others; factors alone have.
    assert_says!(workshop.fail(&["adapter", "merge", "a", "a", "--out", "sum"]), "modules_to_save");
    let start = [
        "train",
        "recipe.toml",
        "--set",
        "adapter.init_from=a",
        "--set",
        "adapter.alpha=3.0",
        "--set",
        "adapter.targets=[\"q_proj\", \"v_proj\"]",
        "--set",
        "adapter.modules_to_save=[\"norm\"]",
    ];
    workshop.succeed(&start);
    assert!(workshop.path("run/adapter/adapter_model.safetensors").exists());
}

#[test]
fn places_around_an_adapter_are_told() {
    let workshop = Workshop::new();
    copy(&workshop, CASE, "named/sql");
    copy(&workshop, CASE, "trainer/checkpoint-10");
    fs::write(workshop.path("trainer/trainer_state.json"), "{}").unwrap();
    fs::create_dir(workshop.path("mlx")).unwrap();
    workshop.write("mlx/adapters.safetensors", "");
    workshop.write("mlx/adapter_config.json", r#"{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}"#);
    fs::create_dir(workshop.path("empty")).unwrap();
    for (adapter, says) in [
        ("named", "did you mean named/sql?"),
        ("trainer", "did you mean trainer/checkpoint-10?"),
        ("mlx", "an adapter of MLX"),
        ("named/sql/adapter_model.bin", "a file of weights; give a PEFT folder"),
        ("nothere", "there is no"),
        ("model", "it is a model folder, not an adapter"),
        ("empty", "it is empty"),
    ] {
        let said = workshop.fail(&eval("model", adapter)).replace(" is not an adapter folder: ", "; ");
        let says = says.replace("; give", " give");
        assert_says!(said, says.as_str());
    }
    assert_says!(workshop.fail(&eval("named/sql", "")), "it is an adapter for the base model", "--adapter");
    fs::remove_file(workshop.path("named/sql/adapter_model.bin")).unwrap();
    assert_says!(workshop.fail(&eval("model", "named/sql")), "adapter_model.safetensors, adapter_model.bin");
}

#[test]
fn places_around_a_model_and_models_of_other_programs_are_told() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml", "--set", "export.merge=true"]);
    for (folder, files) in [
        ("gguf", vec![("m.Q4_K_M.gguf", "GGUF")]),
        ("mistral", vec![("params.json", "{}"), ("consolidated.safetensors", ""), ("tekken.json", "{}")]),
        ("flux", vec![("model_index.json", r#"{"_class_name": "FluxPipeline"}"#)]),
        ("onnx", vec![("model.onnx", "")]),
    ] {
        fs::create_dir(workshop.path(folder)).unwrap();
        files.iter().for_each(|(name, text)| workshop.write(&format!("{folder}/{name}"), text));
    }
    for (model, says) in [
        ("gguf", "GGUF files, of llama.cpp: m.Q4_K_M.gguf"),
        ("gguf/m.Q4_K_M.gguf", "it is a GGUF file"),
        ("mistral", "in the layout of Mistral's own programs"),
        ("flux", "a pipeline of diffusers (FluxPipeline)"),
        ("onnx", "weights of ONNX only"),
        ("run", "the output of a run"),
        ("model/model.safetensors", "it is a file of weights"),
        (".", "did you mean ./model?"),
        ("no-such", "there is no file or folder `no-such`"),
    ] {
        assert_says!(workshop.fail(&eval(model, "")), says);
    }
    assert_says!(workshop.fail(&eval("run", "")), "did you mean run/model?");
    assert_says!(workshop.fail(&eval("model", "run")), "did you mean run/adapter?");
    assert_says!(workshop.fail(&["check", "recipe.toml", "--set", "model=./gguf"]), "GGUF files");
}

#[test]
fn architectures_that_are_not_there_are_told_by_what_they_are() {
    let workshop = Workshop::new();
    let with = |changes: Value| {
        let mut config: Value = serde_json::from_slice(&workshop.read("model/config.json")).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        fs::create_dir_all(workshop.path("other")).unwrap();
        for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            fs::copy(workshop.path("model").join(name), workshop.path("other").join(name)).unwrap();
        }
        workshop.write("other/config.json", &config.to_string());
        workshop.run(&["check", "recipe.toml", "--set", "model=./other"])
    };
    let fails = |changes: Value| crate::workshop::words(&with(changes).stderr);
    let several = json!({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": {"model_type": "gemma3_text"}});
    assert_says!(fails(several), "Gemma3ForConditionalGeneration", "whose text part is a gemma3_text");
    let code = json!({"model_type": "internlm2", "auto_map": {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"}});
    assert_says!(fails(code), "modeling_internlm2.py", "never run");
    assert_says!(fails(json!({"model_type": "bert", "architectures": ["BertModel"]})), "\"bert\" (BertModel)");
    assert_says!(fails(json!({"quantization": {"group_size": 64, "bits": 4}})), "MLX", "f32, f16 or bf16");
    // The files are those of a language model.
    let said = with(json!({"architectures": ["LlamaForSequenceClassification"]}));
    assert_says!(said.stdout, "LlamaForSequenceClassification, but the files are those of a language model");
    let mut weights = firebrand_tests::tensors::read(&workshop.path("model/model.safetensors"));
    let row = weights["model.norm.weight"].values.clone();
    let scores = firebrand_tests::tensors::Values { shape: vec![2, row.len()], values: [row.clone(), row].concat() };
    weights.insert("score.weight".into(), scores);
    firebrand_tests::tensors::write(&workshop.path("model"), "model", &weights);
    // With scores it is a classifier, which learns labels.
    assert_says!(fails(json!({"architectures": ["LlamaForSequenceClassification"]})), "data.jsonl:1", "`label`");
    // Of tokens it is none that is read, whatever its scores are called.
    assert_says!(
        fails(json!({"architectures": ["LlamaForTokenClassification"]})),
        "it is a LlamaForTokenClassification"
    );
    fs::remove_file(workshop.path("model/tokenizer.json")).unwrap();
    fs::remove_file(workshop.path("model/tokenizer_config.json")).unwrap();
    assert_says!(
        workshop.fail(&["data", "recipe.toml"]),
        "rows with text need a tokenizer",
        "looked for tokenizer.json"
    );
}
