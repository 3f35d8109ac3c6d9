//! `adapter inspect` and `adapter extract`, on adapters of PEFT and on models whose difference is known.

use std::path::Path;

use firebrand::inspect::inspect_adapter;
use firebrand_adapters::Targets;
use firebrand_kernels::svd;
use firebrand_models::adapter_extract::{Extracted, Extraction, extract};
use firebrand_models::{Hold, Model, ModelError, adapter_folder};
use firebrand_tests::golden::{self, Forward, at_tokens, logits};
use firebrand_tests::tensors::{self, Tensors, largest_difference};
use serde_json::Value;
use tempfile::TempDir;

use crate::workshop::{RECIPE, Workshop};

const FILE: &str = "adapter_model.safetensors";

/// What PEFT's merge changed in every weight of a case, by module.
fn merged_differences(case: &str) -> Vec<(String, [usize; 2], Vec<f32>)> {
    let config = golden::json(&format!("{case}/adapter_config.json"));
    let base = config["base_model_name_or_path"].as_str().unwrap().trim_start_matches("../").to_string();
    let base = tensors::read_folder(&golden::path(&base));
    let merged = tensors::read(&golden::path(case).join("merged.safetensors"));
    let difference = |(name, after): (&String, &tensors::Values)| {
        let values = after.values.iter().zip(&base[name].values).map(|(after, before)| after - before).collect();
        (name.trim_end_matches(".weight").to_string(), [after.shape[0], after.shape[1]], values)
    };
    merged.iter().map(difference).collect()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn the_sizes_of_every_module_are_those_of_what_peft_merges() {
    for case in ["lora-llama-gqa-tied", "lora-llama-untied-biases", "lora-mixtral-experts", "lora-gpt-neox"] {
        let report = inspect_adapter(&golden::path(case)).unwrap();
        let expected = merged_differences(case);
        assert_eq!(report.modules.len(), expected.len(), "{case}");
        for (module, shape, difference) in expected {
            let found = report.modules.iter().find(|found| found.module == module).unwrap();
            let low_rank = found.low_rank.as_ref().unwrap();
            assert_eq!(low_rank.shape, shape, "{case}: {module}");
            // The merged weight was rounded to f32 where it is as large as the base.
            let size = norm(&difference);
            assert!((found.change / size - 1.0).abs() < 1e-5, "{case}: {module}: {} {size}", found.change);
            let dense = svd(&difference, shape[0], shape[1]).unwrap().values;
            for (found, expected) in low_rank.singular_values.iter().zip(&dense) {
                assert!((found - f64::from(*expected)).abs() < 1e-5 * size, "{case}: {module}: {found} {expected}");
            }
            assert!((1.0..=low_rank.rank as f64 + 1e-9).contains(&low_rank.effective_rank), "{case}: {module}");
        }
    }
}

#[test]
fn ranks_and_alphas_are_told_as_modules_use_them() {
    let report = inspect_adapter(&golden::path("lora-llama-untied-biases")).unwrap();
    let of = |module: &str| {
        let found = report.modules.iter().find(|found| found.module.ends_with(module)).unwrap();
        let low_rank = found.low_rank.as_ref().unwrap();
        (low_rank.rank, low_rank.alpha, low_rank.scale)
    };
    assert_eq!(of("layers.0.self_attn.q_proj"), (3, 5.0, 5.0 / 3_f64.sqrt()));
    assert_eq!(of("layers.1.self_attn.q_proj"), (5, 5.0, 5.0 / 5_f64.sqrt()));
    assert_eq!(of("layers.1.self_attn.v_proj"), (2, 7.0, 7.0 / 2_f64.sqrt()));
    assert!(report.summary.never_trained.is_empty());
    let total: f64 = report.modules.iter().map(|module| module.change.powi(2)).sum();
    assert!((report.summary.change - total.sqrt()).abs() < 1e-9);
    let file = tensors::read(&golden::path("lora-llama-untied-biases").join(FILE));
    assert_eq!(report.parameters as usize, file.values().map(|tensor| tensor.values.len()).sum::<usize>());
}

#[test]
fn magnitudes_and_factors_are_told_by_their_spread() {
    let dora = inspect_adapter(&golden::path("lora-dora-llama")).unwrap();
    let file = tensors::read(&golden::path("lora-dora-llama").join(FILE));
    for module in &dora.modules {
        let values = &file[&format!("base_model.model.{}.lora_magnitude_vector", module.module)].values;
        let spread = module.magnitude.unwrap();
        assert_eq!(spread.min, f64::from(values.iter().copied().fold(f32::INFINITY, f32::min)));
        assert_eq!(spread.max, f64::from(values.iter().copied().fold(0.0, f32::max)));
        assert!(spread.deviation > 0.0 && module.low_rank.is_some());
    }
    let ia3 = inspect_adapter(&golden::path("lora-ia3-llama")).unwrap();
    assert_eq!(ia3.method, "ia3");
    for module in &ia3.modules {
        let spread = module.factors.unwrap();
        assert!(0.3 <= spread.min && spread.min < spread.mean && spread.mean < spread.max && spread.max <= 1.8);
        assert!(module.change > 0.0 && module.low_rank.is_none());
    }
}

/// A copy of an adapter with some of its tensors changed.
fn changed_adapter(case: &str, change: impl Fn(&str, &mut Vec<f32>)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = "adapter_config.json";
    std::fs::copy(golden::path(case).join(config), folder.path().join(config)).unwrap();
    let mut adapter = tensors::read(&golden::path(case).join(FILE));
    adapter.iter_mut().for_each(|(name, tensor)| change(name, &mut tensor.values));
    tensors::write(folder.path(), "adapter_model", &adapter);
    folder
}

#[test]
fn modules_that_were_never_trained_are_named() {
    let untouched = "model.layers.1.mlp.up_proj";
    let folder = changed_adapter("lora-llama-gqa-tied", |name, values| {
        if name.contains(untouched) && name.contains("lora_B") {
            values.fill(0.0);
        }
    });
    let report = inspect_adapter(folder.path()).unwrap();
    assert_eq!(report.summary.never_trained, [untouched]);
    assert_eq!(report.summary.smallest.as_deref(), Some(untouched));
    let text = report.to_string();
    assert!(text.contains(&format!("never trained 1: {untouched}")) && text.contains("effective rank"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["modules"][0]["rank"], 4);
    assert_eq!(json["modules"][0]["singular_values"].as_array().unwrap().len(), 4);
}

#[test]
fn an_adapter_whose_tensors_are_not_as_it_says_is_refused() {
    let failure = |folder: &TempDir| inspect_adapter(folder.path()).unwrap_err().to_string();
    let folder = changed_adapter("lora-llama-gqa-tied", |_, values| values[0] = f32::NAN);
    assert!(failure(&folder).contains("not a finite"), "{}", failure(&folder));
    let folder = changed_adapter("lora-llama-gqa-tied", |_, values| values.fill(1e30));
    assert!(failure(&folder).contains("not finite"), "{}", failure(&folder));
    let config = folder.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap().replace("\"r\": 4", "\"r\": 3");
    std::fs::write(&config, text).unwrap();
    assert!(failure(&folder).contains("expected rank 3"), "{}", failure(&folder));
}

const BASE: &str = "llama-gqa-tied";

/// A copy of the base with some of its tensors changed.
fn tuned(change: impl Fn(&str, &mut Vec<f32>)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(golden::path(BASE).join("config.json"), folder.path().join("config.json")).unwrap();
    let mut model: Tensors = tensors::read_folder(&golden::path(BASE));
    model.iter_mut().for_each(|(name, tensor)| change(name, &mut tensor.values));
    tensors::write(folder.path(), "model", &model);
    folder
}

/// The base with a LoRA adapter of rank 4 folded into every linear map.
fn tuned_by_rank_4() -> TempDir {
    let mut model = golden::load(BASE);
    adapter_folder::load(&mut model, &golden::path("lora-llama-gqa-tied")).unwrap();
    model.merge();
    let folder = tempfile::tempdir().unwrap();
    model.save_weights(folder.path(), None, None).unwrap();
    std::fs::copy(golden::path(BASE).join("config.json"), folder.path().join("config.json")).unwrap();
    folder
}

fn extracted(tuned: &Path, rank: usize, targets: &Targets) -> Result<(TempDir, Extracted), ModelError> {
    let (base, out) = (golden::path(BASE), tempfile::tempdir().unwrap());
    let request = Extraction { base: &base, tuned, base_model: "../base", rank, targets, seed: 1 };
    let found = extract(&request, out.path(), &|_, _| {})?;
    Ok((out, found))
}

/// The distance of the adapted base from the tuned model by the norm of their difference, over all tensors.
fn true_error(tuned: &Path, adapter: &Path) -> f64 {
    let mut model = golden::load(BASE);
    adapter_folder::load(&mut model, adapter).unwrap();
    model.merge();
    let folder = tempfile::tempdir().unwrap();
    model.save_weights(folder.path(), None, None).unwrap();
    let all = |folder: &Path| -> Vec<f32> {
        tensors::read_folder(folder).into_values().flat_map(|tensor| tensor.values).collect()
    };
    let (adapted, tuned, base) = (all(folder.path()), all(tuned), all(&golden::path(BASE)));
    let apart = |left: &[f32], right: &[f32]| {
        norm(&left.iter().zip(right).map(|(left, right)| left - right).collect::<Vec<_>>())
    };
    apart(&adapted, &tuned) / apart(&tuned, &base)
}

#[test]
fn a_difference_of_the_rank_comes_back_whole() {
    let tuned = tuned_by_rank_4();
    let (adapter, found) = extracted(tuned.path(), 4, &Targets::AllLinear).unwrap();
    assert_eq!((found.rank, found.modules.len()), (4, 14));
    assert!(found.left_out.is_empty() && found.config.is_empty());
    assert!(found.relative_error < 1e-5 && found.energy_kept > 1.0 - 1e-9, "{}", found.relative_error);
    assert!(true_error(tuned.path(), adapter.path()) < 1e-5);
    let mut adapted = golden::load(BASE);
    let config = adapter_folder::load(&mut adapted, adapter.path()).unwrap();
    assert_eq!(config.base_model.as_deref(), Some("../base"));
    let whole = Model::load(tuned.path(), Hold::F32, &adapted.device()).unwrap();
    let batch = Forward::open(BASE).batch("");
    let at = |model: &Model| at_tokens(&batch, &logits(model, &batch));
    let apart = largest_difference(&at(&adapted), &at(&whole));
    assert!(apart < 5e-5, "{apart:e}");
    assert!(largest_difference(&at(&adapted), &at(&golden::load(BASE))) > 0.1, "nothing changed");
}

#[test]
fn the_stated_error_of_a_lower_rank_is_the_true_one() {
    let tuned = tuned_by_rank_4();
    let (adapter, found) = extracted(tuned.path(), 2, &Targets::AllLinear).unwrap();
    let error = true_error(tuned.path(), adapter.path());
    assert!(error > 0.1 && (found.relative_error - error).abs() < 1e-5, "{} {error}", found.relative_error);
    assert!((found.energy_kept - (1.0 - error * error)).abs() < 1e-5);
    let by_module: f64 = found.modules.iter().map(|it| (it.relative_error * it.difference).powi(2)).sum();
    assert!((by_module.sqrt() / found.difference - error).abs() < 1e-5);
    // No factors of rank 2 are nearer than the largest components of the true difference.
    for (module, shape, difference) in merged_differences("lora-llama-gqa-tied") {
        let values = svd(&difference, shape[0], shape[1]).unwrap().values;
        let best = norm(&values[2..]) / norm(&values);
        let found = found.modules.iter().find(|found| found.module == module).unwrap();
        assert!((found.relative_error - best).abs() < 1e-4, "{module}: {} {best}", found.relative_error);
    }
}

#[test]
fn what_the_adapter_has_no_place_for_is_named_with_its_size() {
    let (norms, down) = ("model.norm.weight", "model.layers.0.mlp.down_proj.weight");
    let (up, embedding) = ("model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight");
    let tuned = tuned(|name, values| match name {
        name if name == norms => values.iter_mut().for_each(|value| *value *= 1.5),
        name if name == embedding => values[3] += 2.0,
        name if name == down || name == up => values[7] += 0.25,
        _ => {}
    });
    let targets = |names: &[&str]| {
        Targets::Pattern(firebrand_adapters::ModulePattern::Suffixes(names.iter().map(|it| it.to_string()).collect()))
    };
    let (_, found) = extracted(tuned.path(), 1, &targets(&["down_proj", "q_proj"])).unwrap();
    let modules: Vec<&str> = found.modules.iter().map(|found| found.module.as_str()).collect();
    assert_eq!(modules, [down.trim_end_matches(".weight")]);
    assert!((found.modules[0].difference - 0.25).abs() < 1e-6 && found.relative_error < 1e-5);
    let mut left: Vec<(&str, f64)> = found.left_out.iter().map(|it| (it.tensor.as_str(), it.difference)).collect();
    left.sort_by_key(|(name, _)| *name);
    assert_eq!(left.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [embedding, up, norms]);
    assert!((left[0].1 - 2.0).abs() < 1e-6 && (left[1].1 - 0.25).abs() < 1e-6);
    let relative = found.left_out.iter().find(|it| it.tensor == norms).unwrap().relative_difference.unwrap();
    assert!((relative - 0.5).abs() < 1e-6);
}

#[test]
fn models_that_are_not_of_one_shape_or_do_not_differ_are_refused() {
    let failure = |tuned: &Path| extracted(tuned, 2, &Targets::AllLinear).unwrap_err().to_string();
    let message = failure(&golden::path("gpt2"));
    assert!(message.contains("no fine-tune of") && message.contains("gpt2"), "{message}");
    let message = failure(&golden::path("llama-untied-biases"));
    assert!(message.contains("no fine-tune of") && message.contains("in the base"), "{message}");
    let message = failure(&golden::path(BASE));
    assert!(message.contains("no linear map among the targets differs"), "{message}");
}

#[test]
fn weights_that_files_transpose_and_experts_are_extracted_too() {
    for case in ["lora-gpt2", "lora-mixtral-experts"] {
        let config = golden::json(&format!("{case}/adapter_config.json"));
        let name = config["base_model_name_or_path"].as_str().unwrap().trim_start_matches("../").to_string();
        let mut model = golden::load(&name);
        adapter_folder::load(&mut model, &golden::path(case)).unwrap();
        let batch = Forward::open(case).batch("");
        let expected = at_tokens(&batch, &logits(&model, &batch));
        model.merge();
        let (base, tuned, out) = (golden::path(&name), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        model.save_weights(tuned.path(), None, None).unwrap();
        std::fs::copy(base.join("config.json"), tuned.path().join("config.json")).unwrap();
        let targets = &Targets::AllLinear;
        let request = Extraction { base: &base, tuned: tuned.path(), base_model: &name, rank: 3, targets, seed: 0 };
        let found = extract(&request, out.path(), &|_, _| {}).unwrap();
        assert!(found.relative_error < 1e-5, "{case}: {}", found.relative_error);
        let mut adapted = golden::load(&name);
        adapter_folder::load(&mut adapted, out.path()).unwrap();
        let apart = largest_difference(&at_tokens(&batch, &logits(&adapted, &batch)), &expected);
        assert!(apart < 1e-4, "{case}: {apart:e}");
    }
}

#[test]
fn the_program_extracts_and_inspects() {
    let workshop = Workshop::new();
    let tuned = tuned_by_rank_4();
    let tuned = tuned.path().to_str().unwrap();
    let extract = ["adapter", "extract", "--base", "model", "--tuned", tuned, "--rank", "2", "--out", "lora"];
    let said = workshop.succeed(&extract);
    assert!(said.stdout.contains("rank 2, on 14 linear layers") && said.stdout.contains("energy"), "{}", said.stdout);
    assert!(workshop.fail(&extract).contains("lora is not empty"));
    let json = ["--out", "json", "--targets", "q_proj,v_proj", "--json"];
    let again = [&extract[..8], &json[..]].concat();
    let found: Value = serde_json::from_str(&workshop.succeed(&again).stdout).unwrap();
    assert_eq!(found["modules"].as_array().unwrap().len(), 4);
    assert_eq!(found["left_out"].as_array().unwrap().len(), 10);
    let said = workshop.succeed(&["adapter", "inspect", "lora"]);
    assert!(said.stdout.contains("never trained none") && said.stdout.contains("mlp.gate_proj"), "{}", said.stdout);
    let found: Value =
        serde_json::from_str(&workshop.succeed(&["adapter", "inspect", "lora", "--json"]).stdout).unwrap();
    assert_eq!((found["method"].as_str(), found["modules"].as_array().unwrap().len()), (Some("lora"), 14));
    let library = inspect_adapter(&workshop.path("lora")).unwrap();
    assert!((found["summary"]["change"].as_f64().unwrap() - library.summary.change).abs() < 1e-9);
}

const LOFTQ: &str = "\n[quantization]\nkind = \"nf4\"\n\n[export]\nmerge = true\n";

/// A run that started by LoftQ, merged at its end.
fn loftq_run() -> Workshop {
    let workshop = Workshop::new();
    let recipe = RECIPE.replace("alpha = 4.0", "alpha = 4.0\ninit = \"loftq\"") + LOFTQ;
    workshop.write("recipe.toml", &recipe);
    workshop.succeed(&["train", "recipe.toml"]);
    workshop
}

#[test]
fn a_run_that_starts_by_loftq_leaves_an_adapter_for_both_bases() {
    let workshop = loftq_run();
    let text = String::from_utf8(workshop.read("run/adapter/adapter_config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_u64()), (Some(4), Some(8)));
    let note = String::from_utf8(workshop.read("run/adapter/firebrand.json")).unwrap();
    assert!(note.contains("\"init\": \"loftq\""), "{note}");

    // On the quantized base it is what was trained, start and all.
    let merge = ["merge", "--model", "model", "--adapter", "run/adapter", "--json", "--out"];
    workshop.succeed(&[&merge[..], &["trained"]].concat());
    let (trained, run) = (workshop.read("trained/model.safetensors"), workshop.read("run/model/model.safetensors"));
    assert!(trained == run, "the folder is not what was trained");

    // On the original one it is what was learned: the start is not in it.
    workshop.succeed(&[&merge[..], &["original", "--base", "original"]].concat());
    let [base, original, trained] =
        ["model", "original", "trained"].map(|name| tensors::read_folder(&workshop.path(name)));
    let query = "model.layers.0.self_attn.q_proj.weight";
    let apart = |left: &Tensors, right: &Tensors| tensors::distance(&left[query].values, &right[query].values);
    let (learned, lost) = (apart(&original, &base), apart(&trained, &base));
    assert!(learned > 0.0 && learned < lost, "{learned} {lost}");

    let both =
        ["eval", "--model", "model", "--adapter", "run/adapter", "--adapter", "run/adapter", "--data", "data.jsonl"];
    assert!(workshop.fail(&both).contains("--base original"));
    workshop.succeed(&[&both[..], &["--base", "original"]].concat());
}

#[test]
fn the_quantized_base_starts_closer_by_loftq() {
    let workshop = loftq_run();
    let merged = |init: &str| {
        let recipe = RECIPE.replace("alpha = 4.0", &format!("alpha = 4.0\ninit = \"{init}\"")) + LOFTQ;
        // A rate so small that nothing is learned: the merged model is the base as training found it.
        workshop.write("recipe.toml", &recipe.replace("learning_rate = 1e-2", "learning_rate = 1e-12"));
        workshop.succeed(&["train", "recipe.toml", "--output", init]);
        tensors::read_folder(&workshop.path(&format!("{init}/model")))
    };
    let (base, plain, loftq) = (tensors::read_folder(&workshop.path("model")), merged("kaiming"), merged("loftq"));
    for (name, tensor) in base.iter().filter(|(name, _)| name.contains("_proj")) {
        let apart = |model: &Tensors| tensors::distance(&model[name].values, &tensor.values);
        assert!(apart(&loftq) < 0.95 * apart(&plain), "{name}: {} {}", apart(&loftq), apart(&plain));
    }
}

#[test]
fn loftq_needs_a_quantized_base_and_a_fresh_adapter() {
    let workshop = loftq_run();
    let recipe = RECIPE.replace("alpha = 4.0", "alpha = 4.0\ninit = \"loftq\"");
    workshop.write("recipe.toml", &recipe);
    assert!(workshop.fail(&["check", "recipe.toml"]).contains("this base is not quantized"));
    let dora = RECIPE.replace("\"lora\"", "\"dora\"").replace("alpha = 4.0", "alpha = 4.0\ninit = \"loftq\"") + LOFTQ;
    workshop.write("recipe.toml", &dora);
    assert!(workshop.fail(&["check", "recipe.toml"]).contains("DoRA"));
    let again = RECIPE.replace("rank = 2\nalpha = 4.0", "rank = 4\nalpha = 8.0\ninit_from = \"run/adapter\"");
    workshop.write("recipe.toml", &(again.clone() + LOFTQ));
    assert!(workshop.fail(&["check", "recipe.toml"]).contains("for the original weights"));
    workshop.write("recipe.toml", &again);
    workshop.succeed(&["check", "recipe.toml"]);
}
