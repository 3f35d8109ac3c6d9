//! Rows 8, 10, 12 and 42: templates, adapters, heads and bases that files hold.

use firebrand_models::weights::Head;
use firebrand_models::{Hold, Model};
use firebrand_tests::golden::{self, Forward, logits};
use firebrand_tests::tensors;
use firebrand_tests::tiny;
use firebrand_tests::training::train;
use serde_json::json;

use crate::workshop::{Workshop, assert_says, chat_row, words};

/// Row 8.
#[test]
fn generation_does_not_use_another_template_than_training() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml"]);
    workshop.write_rows("ask.jsonl", &[chat_row(0)]);
    let ask =
        ["generate", "--model", "model", "--adapter", "run/adapter", "--data", "ask.jsonl", "--max-new-tokens", "2"];
    workshop.succeed(&ask);
    let with = |more: &[&'static str]| [&ask[..], more].concat();
    assert_says!(workshop.fail(&with(&["--template", "llama2"])), "another chat template", "run/adapter");
    workshop.succeed(&with(&["--template", "llama2", "--allow-template-mismatch"]));
    let template = tiny::TEMPLATE.replace("assistant\n", "assistant: ");
    tiny::write_tokenizer_config(&workshop.path("model"), &json!({"chat_template": template}));
    assert_says!(workshop.fail(&ask), "another chat template");
}

/// Row 32: strings that were joined teach no dialogue.
#[test]
fn an_adapter_of_joined_strings_is_not_taken_for_one_of_dialogues() {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &[json!({"prompt": "Who?", "completion": " Mara."})]);
    let said = workshop.succeed(&["train", "recipe.toml"]);
    assert_says!(
        words(&(said.stdout + &said.stderr)),
        "no-template",
        "instruction = \"prompt\", output = \"completion\""
    );
    let beside: serde_json::Value = serde_json::from_slice(&workshop.read("run/adapter/firebrand.json")).unwrap();
    assert_eq!((&beside["template_hash"], &beside["unrendered"]), (&json!(null), &json!(true)));
    let run: serde_json::Value = serde_json::from_slice(&workshop.read("run/run.json")).unwrap();
    assert_eq!(run["template"], json!(null));
    workshop.write_rows("chat.jsonl", &[chat_row(0)]);
    workshop.write_rows("prompt.jsonl", &[json!({"prompt": "Who?"})]);
    let ask = |file: &'static str, more: &[&'static str]| {
        let asked =
            ["generate", "--model", "model", "--adapter", "run/adapter", "--max-new-tokens", "2", "--data", file];
        [&asked[..], more].concat()
    };
    assert_says!(workshop.fail(&ask("chat.jsonl", &[])), "no chat template rendered", "run/adapter");
    workshop.succeed(&ask("chat.jsonl", &["--allow-template-mismatch"]));
    workshop.succeed(&ask("prompt.jsonl", &[]));
}

/// Row 8: a model with a template for rows that offer tools is handed on with both.
#[test]
fn a_merged_model_renders_tools_as_training_did() {
    let workshop = Workshop::new();
    let tool_use = tiny::TEMPLATE.replacen("{% for", "{{ tools | length }} tools{% for", 1);
    assert_ne!(tool_use, tiny::TEMPLATE);
    let named = |name: &str, template: &str| json!({"name": name, "template": template});
    let several = json!([named("default", tiny::TEMPLATE), named("tool_use", &tool_use), named("rag", "documents")]);
    tiny::write_tokenizer_config(&workshop.path("model"), &json!({"chat_template": several}));
    let mut with_tools = chat_row(0);
    with_tools["tools"] = json!([{"type": "function", "function": {"name": "add", "parameters": {}}}]);
    workshop.write_rows("data.jsonl", &[with_tools, chat_row(1)]);
    let texts = |model: &str| -> Vec<String> {
        let said = workshop.succeed(&["data", "recipe.toml", "--json", "--set", &format!("model=\"{model}\"")]);
        let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].to_string();
        said.stdout.lines().map(row).collect()
    };
    let before = texts("./model");
    assert!(before[0].contains("1 tools") && !before[1].contains("tools"), "{before:?}");
    workshop.succeed(&["train", "recipe.toml", "--set", "export.merge=true"]);
    assert_eq!(texts("./run/model"), before);
    let config: serde_json::Value = serde_json::from_slice(&workshop.read("run/model/tokenizer_config.json")).unwrap();
    let mut names: Vec<_> = config["chat_template"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["default", "rag", "tool_use"]);
    assert_eq!(workshop.read("run/model/additional_chat_templates/rag.jinja"), b"documents");
    // Without the configuration the files say the same.
    tiny::write_tokenizer_config(&workshop.path("run/model"), &json!({"chat_template": null}));
    assert_eq!(texts("./run/model"), before);
    // Another template than the model's has no named ones beside it.
    let chatml = ["--set", "data.template=chatml", "--set", "export.merge=true", "--output", "other"];
    workshop.succeed(&[&["train", "recipe.toml"][..], &chatml].concat());
    assert!(workshop.path("other/model/config.json").exists());
    assert!(!workshop.path("other/model/additional_chat_templates").exists());
}

/// Row 8: what generation asks is what training showed, up to the answer.
#[test]
fn the_prompt_of_generation_is_the_prompt_of_training() {
    let workshop = Workshop::new();
    let said = workshop.succeed(&["data", "recipe.toml", "--json", "--rows", "1"]);
    let row: serde_json::Value = serde_json::from_str(said.stdout.trim()).unwrap();
    let labels = row["labels"].as_array().unwrap();
    let prompt = labels.iter().position(|label| label.as_i64().unwrap() >= 0).unwrap();
    let ids: Vec<_> = row["input_ids"].as_array().unwrap()[..prompt].to_vec();
    workshop.write_rows("both.jsonl", &[chat_row(0), json!({"input_ids": ids})]);
    let ask = ["generate", "--model", "model", "--data", "both.jsonl", "--max-new-tokens", "12"];
    let said = workshop.succeed(&ask);
    let answers: Vec<serde_json::Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers[0]["output_ids"], answers[1]["output_ids"]);
}

/// Row 10.
#[test]
fn no_tensor_is_missing_or_unused_in_silence() {
    let source = golden::path(tiny::GOLDEN);
    let message = |change: &dyn Fn(&mut tensors::Tensors)| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
        let mut weights = tensors::read(&source.join("model.safetensors"));
        change(&mut weights);
        tensors::write(folder.path(), "model", &weights);
        let error = Model::load(folder.path(), Hold::F32, &burn::tensor::Device::flex());
        error.map(|_| ()).expect_err("this must fail").to_string()
    };
    let norm = "model.layers.1.input_layernorm.weight";
    assert_says!(message(&|weights| drop(weights.remove(norm))), norm);
    let twice = |weights: &mut tensors::Tensors| {
        let values = weights[norm].clone();
        weights.insert("model.layers.1.extra_layernorm.weight".into(), values);
    };
    assert_says!(message(&twice), "extra_layernorm");
    let cut = |weights: &mut tensors::Tensors| {
        let tensor = weights.get_mut(norm).unwrap();
        tensor.values.pop();
        tensor.shape[0] -= 1;
    };
    assert_says!(message(&cut), norm, "[29]", "[30]");
}

/// Row 12.
#[test]
fn a_tied_head_is_stored_once_and_stays_tied() {
    let recipe = golden::path("trajectory-full").join("recipe.toml");
    let trained = train(&recipe, &["train.epochs=1"]).unwrap();
    assert!(trained.weights.contains_key("model.embed_tokens.weight"));
    assert!(!trained.weights.contains_key("lm_head.weight"), "stored once");
    let folder = tempfile::tempdir().unwrap();
    trained.model.save_weights(folder.path(), None, None).unwrap();
    std::fs::write(folder.path().join("config.json"), trained.model.config_json(None)).unwrap();
    let again = Model::load(folder.path(), Hold::F32, &burn::tensor::Device::flex()).unwrap();
    assert_eq!(again.head_tie().unwrap().outcome, Head::Tied);
    let batch = Forward::open("llama-gqa-tied").batch("");
    assert_eq!(logits(&again, &batch), logits(&trained.model.for_inference(), &batch), "the same model");
}

/// Row 12. Training one of the two beside adapters tears them apart, as in PEFT.
#[test]
fn a_head_that_is_torn_from_its_embedding_is_said_and_written_so() {
    let workshop = Workshop::new();
    let torn = ["--set", "adapter.modules_to_save=[\"embed_tokens\"]", "--set", "export.merge=true"];
    let said = workshop.succeed(&[&["check", "recipe.toml"], &torn[..]].concat());
    assert_says!(&said.stdout, "trained too: model.embed_tokens.weight", "the head is a matrix of its own");
    workshop.succeed(&[&["train", "recipe.toml"], &torn[..]].concat());
    let config: serde_json::Value = serde_json::from_slice(&workshop.read("run/model/config.json")).unwrap();
    assert_eq!(config["tie_word_embeddings"], json!(false));
    let merged = tensors::read_folder(&workshop.path("run/model"));
    let base = tensors::read_folder(&workshop.path("model"));
    assert_eq!(merged["lm_head.weight"], base["model.embed_tokens.weight"]);
    assert_ne!(merged["model.embed_tokens.weight"], base["model.embed_tokens.weight"]);

    let kept = ["--set", "adapter.ensure_weight_tying=true", "--output", "kept"];
    workshop.succeed(&[&["train", "recipe.toml"], &torn[..], &kept[..]].concat());
    let merged = tensors::read_folder(&workshop.path("kept/model"));
    assert!(!merged.contains_key("lm_head.weight"));
    assert_ne!(merged["model.embed_tokens.weight"], base["model.embed_tokens.weight"]);

    let message = workshop.fail(&["train", "recipe.toml", "--set", "adapter.modules_to_save=[\"embed_tokenz\"]"]);
    assert_says!(message, "embed_tokenz", "lm_head", "adapter.modules_to_save");
    let tables = ["--set", "adapter.targets=[\"embed_tokens\"]", "--set", "adapter.kind=\"dora\""];
    assert_says!(workshop.fail(&[&["train", "recipe.toml"], &tables[..]].concat()), "model.embed_tokens", "only LoRA");
}

/// Row 12.
#[test]
fn a_head_that_differs_is_not_tied_whatever_the_config_says() {
    let source = golden::path(tiny::GOLDEN);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(source.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut weights = tensors::read(&source.join("model.safetensors"));
    let mut head = weights["model.embed_tokens.weight"].clone();
    head.values.reverse();
    weights.insert("lm_head.weight".into(), head);
    tensors::write(folder.path(), "model", &weights);
    let model = Model::load(folder.path(), Hold::F32, &burn::tensor::Device::flex()).unwrap();
    assert_eq!(model.head_tie().unwrap().outcome, Head::UntiedByFile);
    assert_says!(model.config_json(None), "\"tie_word_embeddings\": false");
    let saved = tempfile::tempdir().unwrap();
    model.save_weights(saved.path(), None, None).unwrap();
    assert_eq!(tensors::read(&saved.path().join("model.safetensors")), weights);
}

/// Row 42: a base of the same shape, such as the one that an adapter was merged into.
#[test]
fn an_adapter_is_not_put_on_another_base_unheard() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml", "--set", "export.merge=true"]);
    let on = |verb: &[&'static str], model: &'static str, more: &[&'static str]| {
        [verb, &["--model", model, "--adapter", "run/adapter"][..], more].concat()
    };
    let (eval, merge) = (["eval", "--data", "data.jsonl"], ["merge", "--out", "twice"]);
    let generate = ["generate", "--prompt", "a", "--max-new-tokens", "1"];
    let score = ["score", "--data", "data.jsonl", "--out", "scores.jsonl"];
    for verb in [&eval[..], &merge, &generate, &score] {
        let said = workshop.fail(&on(verb, "run/model", &[]));
        assert_says!(&said, "run/adapter was trained on another base", "run/model", "--other-base");
    }
    let said = workshop.succeed(&on(&eval, "run/model", &["--other-base"]));
    assert_says!(&said.stderr, "was trained on another base");
    assert!(!workshop.succeed(&on(&eval, "model", &[])).stderr.contains("note"));
    let start = ["train", "recipe.toml", "--output", "more", "--set", "adapter.init_from=run/adapter"];
    let said = workshop.fail(&[&start[..], &["--set", "model=./run/model"]].concat());
    assert_says!(&said, "adapter.init_from", "was trained on another base");
    workshop.succeed(&start);
    // The same weights in other files are the same base; without a fingerprint the name is compared.
    let mut weights = tensors::read(&workshop.path("model/model.safetensors"));
    std::fs::remove_file(workshop.path("model/model.safetensors")).unwrap();
    tensors::write(&workshop.path("model"), "model", &weights);
    workshop.succeed(&on(&eval, "model", &[]));
    weights.get_mut("model.layers.0.mlp.up_proj.weight").unwrap().values.iter_mut().for_each(|value| *value *= 1.01);
    tensors::write(&workshop.path("model"), "model", &weights);
    assert_says!(workshop.fail(&on(&eval, "model", &[])), "was trained on another base");
    std::fs::remove_file(workshop.path("run/adapter/firebrand_base.json")).unwrap();
    let said = workshop.succeed(&on(&eval, "run/model", &[]));
    assert!(!said.stderr.contains("names `"), "{}", said.stderr);
    std::fs::rename(workshop.path("model"), workshop.path("elsewhere")).unwrap();
    let said = workshop.succeed(&on(&eval, "elsewhere", &[]));
    assert_says!(&said.stderr, "as its base, and the model is elsewhere");
}

/// An adapter of a quantized base is not trained further on another base.
#[test]
fn an_adapter_of_a_quantized_base_starts_only_on_a_base_quantized_alike() {
    let workshop = Workshop::new();
    let quantized = ["--set", "quantization.kind=nf4"];
    workshop.succeed(&[&["train", "recipe.toml"][..], &quantized].concat());
    let start = ["train", "recipe.toml", "--output", "more", "--set", "adapter.init_from=run/adapter"];
    assert_says!(workshop.fail(&start), "adapter.init_from", "was trained on a base in nf4", "not quantized here");
    workshop.succeed(&[&start[..], &quantized].concat());
}
