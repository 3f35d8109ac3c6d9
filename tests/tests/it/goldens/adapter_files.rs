//! Adapter folders as people have them (`adapter-files/`): PEFT's reading of each is ours.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use firebrand_models::adapter_folder::{self, Start, open_tensors, read_config};
use firebrand_models::{Hold, Model};
use firebrand_tests::golden::{self, Forward, at_tokens, logits};
use firebrand_tests::tensors::{self, largest_difference};
use serde_json::json;

use crate::workshop::assert_says;

const ROOM: &str = "adapter-files";

fn cases(prefix: &str) -> Vec<String> {
    golden::folders_in(ROOM, prefix).into_iter().map(|name| format!("{ROOM}/{name}")).collect()
}

fn base_of(case: &str) -> String {
    let config = golden::json(&format!("{case}/adapter_config.json"));
    config["base_model_name_or_path"].as_str().unwrap().trim_start_matches("../").to_string()
}

fn adapted(case: &str) -> Model {
    let mut model = golden::load(&base_of(case));
    adapter_folder::load(&mut model, &golden::path(case)).unwrap();
    model
}

/// The largest difference of logits from PEFT's, and from those of the base.
fn apart(case: &str, model: &Model) -> (f32, f32) {
    let forward = Forward::open(case);
    let batch = forward.batch("");
    let of = |values: &[f32]| at_tokens(&batch, values);
    let ours = of(&logits(model, &batch));
    let base = of(&logits(&golden::load(&base_of(case)), &batch));
    (largest_difference(&ours, &of(&forward.floats("logits"))), largest_difference(&ours, &base))
}

/// Row 40.
#[test]
fn logits_are_those_of_the_folder_as_peft_loads_it() {
    assert_eq!(cases("").len(), 13);
    golden::each(&cases(""), |case| {
        let (from_peft, from_base) = apart(case, &adapted(case));
        // Singular vectors and triangular factors are computed here by another algorithm.
        let tolerance = if ["pissa", "olora"].iter().any(|name| case.ends_with(name)) { 2e-4 } else { 5e-5 };
        assert!(from_peft < tolerance, "{case}: logits differ by {from_peft:e}");
        assert!(from_base > 0.05, "{case}: the adapter does nothing");
    });
}

/// Row 40: a part of the base that an adapter replaces is in the merged model, in a head of its own where it must be.
#[test]
fn a_merge_holds_the_rows_that_an_adapter_replaces() {
    golden::each(&cases("tokens-"), |case| {
        let folder = tempfile::tempdir().unwrap();
        let mut model = adapted(case);
        model.merge();
        model.save_weights(folder.path(), None, None).unwrap();
        let (ours, base) = (tensors::read_folder(folder.path()), tensors::read_folder(&golden::path(&base_of(case))));
        let expected = tensors::read(&golden::path(case).join("merged.safetensors"));
        assert!(expected.contains_key("model.embed_tokens.weight"), "{case}");
        for (name, tensor) in &ours {
            let expected = expected.get(name).unwrap_or_else(|| &base[name]);
            let apart = largest_difference(&tensor.values, &expected.values);
            assert!(apart < 1e-6, "{case}: {name} differs by {apart:e}");
        }
        let more = expected.keys().filter(|name| !ours.contains_key(*name)).count();
        assert_eq!(more, 0, "{case}");
        assert_eq!(
            ours.contains_key("lm_head.weight"),
            !case.ends_with("gemma3") && !case.ends_with("tokens-tied") && !case.ends_with("same"),
            "{case}"
        );
        fs::write(folder.path().join("config.json"), model.config_json(None)).unwrap();
        let read = Model::load(folder.path(), Hold::F32, &Device::flex()).unwrap();
        let (from_peft, _) = apart(case, &read);
        assert!(from_peft < 5e-5, "{case}: {from_peft:e}");
    });
}

fn changed(case: &str, file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden::path(case)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    folder
}

fn refusal(case: &str, folder: &Path) -> String {
    adapter_folder::load(&mut golden::load(&base_of(case)), folder).expect_err("this must fail").to_string()
}

/// Row 40: rows that do not fit, or that would be lost, are refused.
#[test]
fn rows_of_the_token_table_fit_or_are_refused() {
    const CONFIG: &str = "adapter_config.json";
    let case = "adapter-files/tokens-tied";
    for (from, to, says) in [
        ("    17\n", "    1700\n", "token 1700, and `model.embed_tokens` has 97 rows"),
        ("    90,\n", "", "is [3, 30], expected [2, 30]"),
        ("    17\n", "    5\n", "`trainable_token_indices`: expected a list of token ids"),
        ("trainable_token_indices", "other_indices", "no trainable_token_indices name its rows"),
        (
            "\"target_modules\": [",
            "\"target_modules\": [\"embed_tokens\",",
            "`model.embed_tokens` has an adapter beside",
        ),
    ] {
        let folder = changed(case, CONFIG, from, to);
        assert_says!(refusal(case, folder.path()), says);
    }
    let case = "adapter-files/tokens-both";
    let folder = changed(case, CONFIG, "\"lm_head\": [", "\"norm\": [");
    assert_says!(refusal(case, folder.path()), "`norm`, which is neither the token table", "`lm_head`");
    let mut model = golden::load(&base_of(case));
    let config = read_config(&golden::path(case)).unwrap();
    let start = Start::Folder(&golden::path(case));
    let error = adapter_folder::attach(&mut model, &config.method, start).unwrap_err().to_string();
    assert_says!(error, "trainable_tokens_delta", "merge the adapter into its base first");
}

/// Row 40: what began at a part of the base is for another base, unless the start can be made again.
#[test]
fn starts_that_changed_the_base_are_made_again_or_refused_with_how_peft_converts_them() {
    let case = "adapter-files/pissa";
    for name in ["pissa_niter_4", "corda", "lora_ga", "loftq", "something_new"] {
        let folder = changed(case, "adapter_config.json", "\"pissa\"", &format!("\"{name}\""));
        assert_says!(refusal(case, folder.path()), name, "path_initial_model_for_weight_conversion");
    }
    for name in ["eva", "gaussian", "Gaussian"] {
        let folder = changed(case, "adapter_config.json", "\"pissa\"", &format!("\"{name}\""));
        adapter_folder::load(&mut golden::load(&base_of(case)), folder.path()).unwrap();
    }
    let dora = changed(case, "adapter_config.json", "\"use_dora\": false", "\"use_dora\": true");
    assert_says!(refusal(case, dora.path()), "path_initial_model_for_weight_conversion");
}

/// Names that match nothing are told; each tensor still has to fit, and each module that matches has to be there.
#[test]
fn names_that_match_nothing_are_notes_and_the_tensors_decide() {
    let case = "adapter-files/unmatched";
    let model = adapted(case);
    let notes = model.notes().join("\n");
    for (name, key) in [
        ("classifier", "modules_to_save"),
        ("score", "modules_to_save"),
        ("query_key_value", "target_modules"),
        ("w1", "target_modules"),
        ("fc9", "exclude_modules"),
        ("k_proj", "rank_pattern"),
        ("w2", "alpha_pattern"),
    ] {
        assert_says!(&notes, &format!("`{name}` in `{key}` matches nothing in the model"));
    }
    assert_eq!(model.notes().len(), 7, "{notes}");
    let config = read_config(&golden::path(case)).unwrap().method;
    let recipe = adapter_folder::attach(&mut golden::load(&base_of(case)), &config, Start::Folder(&golden::path(case)));
    assert_says!(recipe.unwrap_err().to_string(), "matches no linear module");
    let with = |name: &str| changed(case, "adapter_config.json", "\"w1\"", &format!("\"{name}\""));
    assert_says!(refusal(case, with("o_proj").path()), "it has no tensors for", "o_proj");
    let folder = changed(case, "adapter_config.json", "{", "{");
    let mut none = golden::json(&format!("{case}/adapter_config.json"));
    none["target_modules"] = json!(["w7", "w8"]);
    fs::write(folder.path().join("adapter_config.json"), none.to_string()).unwrap();
    assert_says!(refusal(case, folder.path()), "no module of the model matches `target_modules`", "q_proj");
}

/// Both files: PEFT takes the safetensors.
#[test]
fn safetensors_come_before_pickles() {
    let folder = changed("adapter-files/pickled", "adapter_config.json", "{", "{");
    assert!(open_tensors(folder.path()).unwrap().path().ends_with("adapter_model.bin"));
    let other = golden::path("lora-llama-gqa-tied").join("adapter_model.safetensors");
    fs::copy(other, folder.path().join("adapter_model.safetensors")).unwrap();
    assert!(open_tensors(folder.path()).unwrap().path().ends_with("adapter_model.safetensors"));
}
