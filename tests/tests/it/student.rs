//! Students: a folder with some of a model's blocks computes what those blocks compute, and has everything else as it was.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use firebrand::objective::inputs;
use firebrand_adapters::Mode;
use firebrand_models::weights::{Checkpoint, CheckpointPlan, PlanOptions, TensorSpec};
use firebrand_models::{Hold, Model, ModelFiles};
use firebrand_tests::golden::{self, Forward, decoder, host, logits};
use firebrand_tests::tiny;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::workshop::{Workshop, assert_says};

/// Writes a student of a folder.
fn student_of(folder: &Path, kept: &[usize]) -> TempDir {
    let out = tempfile::tempdir().unwrap();
    ModelFiles::open(folder).unwrap().student(kept).unwrap().write(out.path()).unwrap();
    out
}

fn load(folder: &Path) -> Model {
    Model::load(folder, Hold::F32, &Device::flex()).unwrap()
}

fn layers(folder: &Path) -> usize {
    ModelFiles::open(folder).unwrap().network().stacks()[0].layers
}

/// A name, as a file's, of a tensor whose bytes and dtype these are.
fn tensors(folder: &Path) -> Vec<(String, String, Vec<u8>)> {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let mut all: Vec<_> = checkpoint
        .tensors()
        .map(|view| (view.name.to_string(), format!("{} {:?}", view.dtype, view.shape), view.bytes().into_owned()))
        .collect();
    all.sort();
    all
}

/// The folder of a golden, with its weights in several files.
fn sharded(case: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(golden::path(case).join("config.json"), folder.path().join("config.json")).unwrap();
    let whole = Checkpoint::open(golden::path(case)).unwrap();
    let spec = |view: firebrand_models::weights::TensorView<'_>| TensorSpec {
        name: view.name.to_owned(),
        dtype: view.dtype,
        shape: view.shape.to_vec(),
    };
    let options = PlanOptions { max_shard_bytes: 8000, ..PlanOptions::default() };
    let plan = CheckpointPlan::new(whole.tensors().map(spec).collect(), &options).unwrap();
    let written =
        plan.write(folder.path(), |spec| Ok(Cow::Owned(whole.get(&spec.name)?.bytes().into_owned()))).unwrap();
    assert!(written.files.len() > 3);
    folder
}

/// Holds a student against its blocks in the whole model, on a golden's batch: bit for bit, because the same operations
/// run on the same numbers.
fn assert_computes_blocks(whole: &Path, case: &str, kept: &[usize]) {
    let batch = Forward::open(case).batch("");
    let (model, student) = (load(whole), load(student_of(whole, kept).path()));
    let context = decoder(&model).context(&inputs(&batch), Mode::Inference);
    let mut x = decoder(&model).embed(&inputs(&batch), Mode::Inference);
    for layer in kept {
        x = decoder(&model).layers()[*layer].forward(x, &context, None);
    }
    let expected = host(decoder(&model).head().logits(decoder(&model).finish(x, Mode::Inference)));
    assert_eq!(decoder(&student).layers().len(), kept.len(), "{case} {kept:?}");
    assert!(logits(&student, &batch) == expected, "{case}: layers {kept:?} compute something else");
    assert!(kept.len() == layers(whole) || logits(&model, &batch) != expected, "{case}: nothing was left out");
}

#[test]
fn all_layers_in_order_are_the_same_files() {
    let same = |folder: &Path| {
        let all: Vec<usize> = (0..layers(folder)).collect();
        let student = student_of(folder, &all);
        for entry in fs::read_dir(student.path()).unwrap() {
            let name = entry.unwrap().file_name();
            let [ours, theirs] = [student.path(), folder].map(|folder| fs::read(folder.join(&name)).unwrap());
            assert!(ours == theirs, "{}: {name:?}", folder.display());
        }
    };
    golden::each_model(|case| same(&golden::path(case)));
    same(sharded("llama-untied-biases").path());
    for case in ["model", "gpt2", "gpt-neox", "opt-350m", "mixtral"] {
        same(&golden::path(&format!("quantized/{case}")));
    }
}

#[test]
fn a_student_of_every_family_computes_the_blocks_it_has() {
    golden::each_model(|case| {
        let folder = golden::path(case);
        let all: Vec<usize> = (0..layers(&folder)).collect();
        let mut choices =
            vec![all[1..].to_vec(), all.iter().copied().step_by(2).collect(), all.iter().copied().rev().collect()];
        // Its scores are scaled by the number of the layer.
        if case == "gpt2-scaled" {
            let refused = ModelFiles::open(&folder).unwrap();
            let message = refused.student(&[0, 2]).unwrap_err().to_string();
            assert_says!(message, "scale_attn_by_inverse_layer_idx", "keep the first layers");
            choices = vec![vec![0, 1]];
        }
        for kept in choices {
            assert_computes_blocks(&folder, case, &kept);
        }
    });
}

#[test]
fn quantized_and_sharded_folders_have_students() {
    for (case, base) in
        [("model", "llama-gqa-tied"), ("gpt2", "gpt2"), ("opt-350m", "opt-350m"), ("mixtral", "mixtral")]
    {
        assert_computes_blocks(&golden::path(&format!("quantized/{case}")), base, &[1]);
    }
    let folder = sharded("llama-legacy-spelling");
    assert_computes_blocks(folder.path(), "llama-legacy-spelling", &[2, 0]);
}

#[test]
fn tensors_are_copied_under_the_numbers_of_the_student() {
    let folder = golden::path("quantized/gpt-neox");
    let student = student_of(&folder, &[1]);
    let expected = tensors(&folder).into_iter().filter(|(name, ..)| !name.contains(".layers.0."));
    let expected: Vec<_> =
        expected.map(|(name, spec, bytes)| (name.replace(".layers.1.", ".layers.0."), spec, bytes)).collect();
    assert!(expected.iter().any(|(name, ..)| name.ends_with("quant_state.bitsandbytes__nf4")), "quantized");
    assert!(tensors(student.path()) == expected);
}

#[test]
fn files_of_pytorch_become_safetensors() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/src/weights/fixtures");
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixtures.join("pickles")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("pytorch_model") {
            fs::copy(&path, folder.path().join(name)).unwrap();
        }
    }
    let config = json!({
        "model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12, "num_attention_heads": 2,
        "num_key_value_heads": 1, "num_hidden_layers": 1, "max_position_embeddings": 32, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "tie_word_embeddings": false,
    });
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let student = student_of(folder.path(), &[0]);
    assert!(student.path().join("model.safetensors").exists());
    assert!(tensors(student.path()) == tensors(&fixtures.join("sharded")));
}

/// A folder whose model has three layers, with the tokenizer of a workshop.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    for file in ["config.json", "model.safetensors", "generation_config.json"] {
        fs::copy(golden::path("smollm3").join(file), workshop.path(&format!("model/{file}"))).unwrap();
    }
    fs::create_dir(workshop.path("model/additional_chat_templates")).unwrap();
    workshop.write("model/additional_chat_templates/tools.jinja", "{{ messages }}");
    workshop.write("model/chat_template.jinja", tiny::TEMPLATE);
    workshop.write("model/README.md", "not part of the model");
    workshop
}

#[test]
fn the_command_copies_what_stands_beside_and_says_what_is_left_out() {
    let workshop = workshop();
    let said = workshop.succeed(&["student", "--model", "model", "--every", "2", "--out", "smaller"]);
    assert_says!(said.stdout, "kept        2 of 3 layers: 0, 2", "left out    1\n", "model       smaller");
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"] {
        let [before, after] = ["model", "smaller"].map(|folder| workshop.read(&format!("{folder}/{file}")));
        assert!(before == after, "{file}");
    }
    assert_eq!(workshop.list("smaller/additional_chat_templates"), ["tools.jinja"]);
    assert!(!workshop.list("smaller").contains(&"README.md".to_string()));
    let config: Value = serde_json::from_slice(&workshop.read("smaller/config.json")).unwrap();
    assert_eq!((&config["num_hidden_layers"], &config["no_rope_layers"]), (&json!(2), &json!([1, 1])));
    let said = workshop.succeed(&["student", "--model", "model", "--layers", "2, 0", "--out", "turned", "--json"]);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let [before, after] = ["before", "after"].map(|key| report["parameters"][key].as_u64().unwrap());
    assert_eq!((&report["kept"], &report["left_out"]), (&json!([2, 0]), &json!([1])));
    for (folder, expected) in [("model", before), ("turned", after)] {
        let counted: u64 = load(&workshop.path(folder))
            .base_parameters()
            .iter()
            .map(|info| info.shape.iter().product::<usize>() as u64)
            .sum();
        assert_eq!(counted, expected, "{folder}");
    }
    // The student trains as any model.
    workshop.write_rows("tokens.jsonl", &[json!({"input_ids": [5, 6, 7], "labels": [5, 6, 7]})]);
    let rows = "data.train=[{path=\"tokens.jsonl\"}]";
    workshop.succeed(&["check", "recipe.toml", "--set", "model=\"smaller\"", "--set", rows]);
}

#[test]
fn what_makes_no_student_is_refused_and_nothing_is_written() {
    let workshop = workshop();
    let student = |more: &[&'static str]| [&["student", "--model", "model"][..], more].concat();
    for (more, says) in [
        (&["--layers", "0,3", "--out", "s"][..], "there is no layer 3: the model has layers 0 to 2"),
        (&["--layers", "1,0,1", "--out", "s"], "layer 1 is named twice"),
        (&["--every", "2", "--out", "model"], "model is not empty"),
        (&["--every", "2", "--out", "model/smaller/still"], "lies in the model's own folder"),
    ] {
        assert_says!(workshop.fail(&student(more)), says);
    }
    for (more, says) in [
        (&["--out", "s"][..], "--layers"),
        (&["--layers", "0", "--every", "2", "--out", "s"], "cannot be used with"),
        (&["--layers", "", "--out", "s"], "write numbers such as 0,2,4"),
        (&["--layers", "0,two", "--out", "s"], "\"two\" is no number of a layer"),
        (&["--every", "0", "--out", "s"], "0 is not in 1.."),
        (&["--every", "2"], "--out"),
    ] {
        let said = workshop.run(&student(more));
        assert_eq!(said.code, Some(2), "{more:?}");
        assert_says!(said.stderr, says);
    }
    let towers = golden::path("towers").join(&golden::folders_in("towers/", "clip")[0]);
    let refused = workshop.fail(&["student", "--model", towers.to_str().unwrap(), "--every", "2", "--out", "s"]);
    assert_says!(refused, "a pair of towers has more than one stack of layers");
    assert!(!workshop.path("s").exists() && !workshop.path("model/smaller").exists());
}
