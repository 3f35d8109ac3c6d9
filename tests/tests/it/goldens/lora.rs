//! PEFT adapter folders: what they compute, how they are written, what is refused.

use std::fs;
use std::path::Path;

use firebrand::objective::Recompute;
use firebrand_adapters::peft::{AdapterTensor, PeftConfig, base_tensor_name, tensor_name};
use firebrand_adapters::{AdapterConfig, LoraConfig, ModulePattern, Targets, Tying};
use firebrand_models::adapter_folder::Start;
use firebrand_models::decoder::Decoder;
use firebrand_models::weights::Checkpoint;
use firebrand_models::{Model, adapter_folder};
use firebrand_tests::golden::{self, Forward, at_tokens, logits};
use firebrand_tests::tensors::{self, Tensors, distance, largest_difference};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::forward::{assert_gradients, loss_and_gradients};

const FILE: &str = "adapter_model.safetensors";

fn cases() -> Vec<String> {
    let cases = golden::folders("lora-");
    assert!(cases.len() >= 3, "{cases:?}");
    cases
}

fn base_of(case: &str) -> String {
    let config = golden::json(&format!("{case}/adapter_config.json"));
    config["base_model_name_or_path"].as_str().unwrap().trim_start_matches("../").to_string()
}

fn adapted(case: &str) -> (Model, PeftConfig) {
    let mut model = golden::load(&base_of(case));
    let config = adapter_folder::load(&mut model, &golden::path(case)).unwrap();
    (model, config)
}

#[test]
fn adapted_logits_and_losses_equal_pefts() {
    golden::each(&cases(), |case| {
        let ((model, _), forward) = (adapted(case), Forward::open(case));
        let base = golden::load(&base_of(case));
        for prefix in forward.batches() {
            let batch = forward.batch(&prefix);
            let ours = at_tokens(&batch, &logits(&model, &batch));
            let apart = largest_difference(&ours, &at_tokens(&batch, &forward.floats(&format!("{prefix}logits"))));
            assert!(apart < 5e-5, "{case}: {prefix}logits differ by {apart:e}");
            let moved = largest_difference(&ours, &at_tokens(&batch, &logits(&base, &batch)));
            assert!(moved > 0.1, "{case}: the adapter does nothing");
        }
    });
}

#[test]
fn gradients_of_everything_trained_equal_pefts() {
    golden::each(&cases(), |case| {
        let (model, config) = adapted(case);
        let names = FileNames::new(&model);
        let model = model.train_active();
        let forward = Forward::open(case);
        let tied = golden::decoder(&model).config().head.tied && config.method.trained_base().tying == Tying::Kept;
        for recompute in [Recompute::Off, Recompute::Blocks] {
            let (loss, ours) = loss_and_gradients(&model, &forward.batch(""), recompute);
            assert!((loss - forward.loss("")).abs() < 1e-5 * loss, "{case}: loss {loss}, not {}", forward.loss(""));
            let mut named: Vec<_> = ours.into_iter().map(|(path, gradient)| (names.of(&path), gradient)).collect();
            if let (true, Some((_, both))) =
                (tied, named.iter().find(|(name, _)| name.ends_with("embed_tokens.weight")))
            {
                // One matrix, which PEFT writes under both names.
                named.push(("base_model.model.lm_head.weight".into(), both.clone()));
            }
            assert_gradients(case, named, forward.gradients());
        }
    });
}

/// What our paths are called in an adapter's file.
struct FileNames {
    /// Our path of a linear map and its path in files.
    maps: Vec<(String, String)>,
    tables: [(&'static str, String); 2],
    adapted: Vec<String>,
}

impl FileNames {
    fn new(model: &Model) -> Self {
        let theirs = model.linear_paths().unwrap();
        let linears = model.network().linears();
        let adapted = linears.iter().zip(&theirs).filter(|((_, map), _)| map.adapter().is_some());
        let adapted = adapted.map(|(_, path)| path.clone()).collect();
        let maps = linears.into_iter().map(|(path, _)| path).zip(theirs).collect();
        let module = |ours| model.name_for_peft(ours).unwrap().strip_suffix(".weight").unwrap().to_string();
        let tables = [("embed", module(Decoder::EMBEDDING)), ("head", module(Decoder::HEAD))];
        Self { maps, tables, adapted }
    }

    fn of(&self, path: &str) -> String {
        // Parameters of the base come under the names of their own files.
        let Some((module, factor)) = path.split_once(".adapter.") else {
            return base_tensor_name(&path.replace("embed_out.", "lm_head."), &self.adapted);
        };
        let tables = self.tables.iter().map(|(ours, theirs)| (*ours, theirs));
        let maps = self.maps.iter().map(|(ours, theirs)| (ours.as_str(), theirs));
        let theirs = tables.chain(maps).find(|(ours, _)| *ours == module).unwrap().1;
        let tensor = match (module, factor) {
            ("embed", "a") => AdapterTensor::EmbeddingA,
            ("embed", "b") => AdapterTensor::EmbeddingB,
            (_, "a") => AdapterTensor::A,
            (_, "b") => AdapterTensor::B,
            (_, "magnitude") => AdapterTensor::Magnitude,
            (_, "scale") => AdapterTensor::Scale,
            _ => panic!("{path}"),
        };
        tensor_name(theirs, tensor)
    }
}

#[test]
fn an_adapter_written_again_is_the_same_adapter() {
    golden::each(&cases(), |case| {
        let (model, config) = adapted(case);
        let folder = tempfile::tempdir().unwrap();
        adapter_folder::save(&model, &config.method, config.base_model.as_deref().unwrap(), folder.path()).unwrap();
        let source = golden::path(case);
        let [mut theirs, ours] = [&source, folder.path()].map(|folder| tensors::read(&folder.join(FILE)));
        // The matrix of an adapted embedding or head is the base's, and not ours to write.
        theirs.retain(|name, _| !name.ends_with(".base_layer.weight"));
        if tensors::read(&source.join(FILE)).len() == theirs.len() {
            assert!(fs::read(folder.path().join(FILE)).unwrap() == fs::read(source.join(FILE)).unwrap(), "{case}");
        }
        assert!(ours == theirs, "{case}");
        let written = adapter_folder::read_config(folder.path()).unwrap();
        assert_eq!((written.method, written.base_model), (config.method, config.base_model), "{case}");
        for (key, value) in &written.raw {
            let Some(original) = config.raw.get(key) else { continue };
            assert!(original == value || same_number(original, value), "{case}: {key}: {original} became {value}");
        }
    });
}

fn same_number(left: &Value, right: &Value) -> bool {
    left.as_f64().is_some() && left.as_f64() == right.as_f64()
}

#[test]
fn merged_weights_equal_merge_and_unload() {
    golden::each(&cases(), |case| {
        let (mut model, _) = adapted(case);
        model.merge();
        let folder = tempfile::tempdir().unwrap();
        model.save_weights(folder.path(), None, None).unwrap();
        let (ours, base) = (Checkpoint::open(folder.path()).unwrap(), golden::path(&base_of(case)));
        let base = tensors::read_folder(&base);
        let merged = tensors::read(&golden::path(case).join("merged.safetensors"));
        // A head that was the embedding may have become a tensor of its own.
        assert_eq!(ours.len(), base.len() + merged.keys().filter(|name| !base.contains_key(*name)).count(), "{case}");
        for view in ours.tensors() {
            let values = view.to_f32().unwrap();
            match merged.get(view.name) {
                Some(theirs) => {
                    let apart = distance(&values, &theirs.values);
                    assert!(apart < 1e-6, "{case}: {} is {apart:e} away", view.name);
                }
                None => assert!(values == base[view.name].values, "{case}: {} changed", view.name),
            }
        }
    });
}

/// What PEFT means by all linear maps, but for routers: those we leave alone unless they are asked for.
#[test]
fn all_linear_is_what_peft_means() {
    let expected = golden::json("all_linear.json");
    golden::each_model(|case| {
        let mut ours = golden::load(case).projection_paths().unwrap();
        ours.sort();
        let theirs = expected[case].as_array().unwrap().iter().map(|path| path.as_str().unwrap());
        let theirs: Vec<&str> = theirs.filter(|path| !path.ends_with("block_sparse_moe.gate")).collect();
        assert_eq!(ours, theirs, "{case}");
    });
}

/// PEFT's present layout: factors of all experts in one tensor.
#[test]
fn stacked_factors_of_experts_are_refused_by_name() {
    let mut model = golden::load("mixtral");
    let message = adapter_folder::load(&mut model, &golden::path("peft-stacked-experts")).unwrap_err().to_string();
    assert!(message.contains("target_parameters"), "{message}");
}

#[test]
fn sets_of_experts_that_peft_would_not_read_are_refused_before_training() {
    let fresh = |targets: &[&str], change: &dyn Fn(&mut LoraConfig)| {
        let AdapterConfig::Lora(mut lora) = adapted("lora-mixtral").1.method else { panic!() };
        let names = targets.iter().map(|name| name.to_string()).collect();
        lora.targets = Targets::Pattern(ModulePattern::Suffixes(names));
        change(&mut lora);
        let mut model = golden::load("mixtral");
        adapter_folder::attach(&mut model, &AdapterConfig::Lora(lora), Start::Fresh { seed: 1, original: None })
    };
    for targets in [&["w1", "w2", "w3"][..], &["w2"], &["w2", "q_proj"], &["gate"]] {
        fresh(targets, &|_| {}).unwrap();
    }
    for targets in [&["w1"][..], &["w1", "w3"], &["experts.0.w2"]] {
        let message = fresh(targets, &|_| {}).unwrap_err().to_string();
        assert!(message.contains("PEFT does not read"), "{targets:?}: {message}");
    }
    let message = fresh(&["w2"], &|lora| lora.rslora = true).unwrap_err().to_string();
    assert!(message.contains("rslora"), "{message}");
    let message = fresh(&["w2"], &|lora| lora.rank_pattern = vec![("w2".into(), 7)]).unwrap_err().to_string();
    assert!(message.contains("rank"), "{message}");
}

/// A copy of an adapter that was changed.
fn changed(config: impl FnOnce(&mut Value), weights: impl FnOnce(&mut Tensors)) -> TempDir {
    let source = golden::path("lora-llama-gqa-tied");
    let folder = tempfile::tempdir().unwrap();
    let mut settings = golden::json("lora-llama-gqa-tied/adapter_config.json");
    config(&mut settings);
    fs::write(folder.path().join("adapter_config.json"), settings.to_string()).unwrap();
    let mut values = tensors::read(&source.join(FILE));
    weights(&mut values);
    tensors::write(folder.path(), "adapter_model", &values);
    folder
}

fn refusal(folder: &Path) -> String {
    let mut model = golden::load("llama-gqa-tied");
    adapter_folder::load(&mut model, folder).expect_err("this must fail").to_string()
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_by_name() {
    let module = "model.layers.1.mlp.up_proj";
    let name = |factor| tensor_name(module, factor);
    let message = refusal(changed(|config| config["target_modules"] = json!(["c_attn"]), |_| {}).path());
    assert!(message.contains("c_attn") && message.contains("q_proj"), "matches no module: {message}");

    let lacking = |weights: &mut Tensors| {
        weights.remove(&name(AdapterTensor::A));
        weights.remove(&name(AdapterTensor::B));
    };
    let message = refusal(changed(|_| {}, lacking).path());
    assert!(message.contains(module), "lacks both factors: {message}");

    let message = refusal(changed(|_| {}, |weights| drop(weights.remove(&name(AdapterTensor::B)))).path());
    assert!(message.contains(module), "lacks one factor: {message}");

    let extra = |weights: &mut Tensors| {
        for factor in [AdapterTensor::A, AdapterTensor::B] {
            let values = weights[&name(factor)].clone();
            weights.insert(tensor_name("model.layers.7.mlp.up_proj", factor), values);
        }
    };
    let message = refusal(changed(|_| {}, extra).path());
    assert!(message.contains("model.layers.7.mlp.up_proj"), "leaves a tensor unused: {message}");

    let message = refusal(changed(|config| config["target_modules"] = json!(["q_proj"]), |_| {}).path());
    assert!(message.contains("targets"), "leaves tensors unused: {message}");

    let message = refusal(changed(|config| config["r"] = json!(3), |_| {}).path());
    assert!(message.contains("expected [3,"), "has another rank: {message}");

    let saved = |config: &mut Value| config["modules_to_save"] = json!(["norm"]);
    let message = refusal(changed(saved, |_| {}).path());
    assert!(
        message.contains("it has no `base_model.model.model.layers.0.input_layernorm.weight`")
            || message.contains("norm.weight"),
        "{message}"
    );

    let untrained = |weights: &mut Tensors| {
        let values = weights[&name(AdapterTensor::A)].clone();
        weights.insert("base_model.model.model.norm.weight".into(), values);
    };
    let message = refusal(changed(|_| {}, untrained).path());
    assert!(message.contains("model.norm.weight` is not used"), "{message}");

    let message = refusal(changed(|config| config["use_qalora"] = json!(true), |_| {}).path());
    assert!(message.contains("use_qalora"), "means something else: {message}");

    let message = refusal(changed(|config| config["use_dora"] = json!(true), |_| {}).path());
    assert!(message.contains("lora_magnitude_vector"), "lacks a magnitude: {message}");

    let nan = |weights: &mut Tensors| weights.get_mut(&name(AdapterTensor::A)).unwrap().values[3] = f32::NAN;
    let message = refusal(changed(|_| {}, nan).path());
    assert!(message.contains(module) && message.contains("NaN"), "is no number: {message}");
}
