//! Classifiers of images against transformers and PEFT (`tests/goldens/images/`): states, scores, loss, gradients, adapters,
//! whole runs.

use std::fs;
use std::path::PathBuf;

use burn::tensor::Device;
use firebrand::objective::{Learned, Objective, Recompute, Score, rows_of};
use firebrand::training::Outcome;
use firebrand_adapters::Mode;
use firebrand_adapters::peft::PeftConfig;
use firebrand_datasets::{Array, ArrayValues, Batch, BatchContent, Classes, NamedArrays, Problem};
use firebrand_models::image::{ImageEncoder, Pixels};
use firebrand_models::weights::{Checkpoint, Dtype, SafetensorsFile};
use firebrand_models::{Kind, Model, PooledInputs, adapter_folder};
use firebrand_tests::golden::{self, host};
use firebrand_tests::tensors::{self, Tensors, distance, distance_of_sets, largest_difference};
use firebrand_tests::training::{Trained, train};
use serde_json::{Value, json};

use super::gradients::{self, assert_gradients};
use crate::workshop::Workshop;

/// States and scores are a few units large; f32 rounding moves them by 2e-6.
const STATES: f32 = 2e-5;

fn cases(prefix: &str) -> Vec<String> {
    let found = golden::folders_in("images/", prefix).into_iter().map(|name| format!("images/{name}"));
    let found: Vec<String> = found.collect();
    assert!(found.len() >= 3, "{prefix}: {found:?}");
    found
}

fn image(model: &Model) -> &ImageEncoder {
    model.network().image().unwrap()
}

/// `forward.safetensors` of a case: several batches, each of one size.
struct Forward(SafetensorsFile);

impl Forward {
    fn open(case: &str) -> Self {
        Self(SafetensorsFile::open(golden::path(case).join("forward.safetensors")).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.0.get(name).unwrap().to_f32().unwrap()
    }

    fn batches(&self) -> usize {
        self.0.names().filter(|name| name.ends_with("pixel_values")).count()
    }

    fn pixels(&self, batch: usize) -> Pixels {
        let view = self.0.get(&format!("{batch}.pixel_values")).unwrap();
        Pixels { values: view.to_f32().unwrap(), shape: view.shape.try_into().unwrap() }
    }

    /// All rows of all batches, as a trainer lays them out.
    fn rows(&self) -> Vec<NamedArrays> {
        let of_batch = |batch: usize| {
            let Pixels { values, shape: [count, channels, height, width] } = self.pixels(batch);
            let labels = integers(&self.0, &format!("{batch}.labels"));
            let size = values.len() / count;
            let row = move |row: usize| {
                let pixels = ArrayValues::F32(values[row * size..][..size].to_vec());
                NamedArrays::from([
                    ("pixel_values".into(), Array { shape: vec![channels, height, width], values: pixels }),
                    ("labels".into(), Array { shape: vec![], values: ArrayValues::I64(vec![labels[row]]) }),
                ])
            };
            (0..count).map(row)
        };
        (0..self.batches()).flat_map(of_batch).collect()
    }
}

fn integers(file: &SafetensorsFile, name: &str) -> Vec<i64> {
    file.get(name).unwrap().bytes().as_chunks::<8>().0.iter().map(|word| i64::from_le_bytes(*word)).collect()
}

fn batch(rows: &[NamedArrays]) -> Batch {
    Batch { examples: vec![], parts: vec![], content: BatchContent::Tensors(rows.to_vec()) }
}

#[test]
fn every_layer_equals_the_reference_at_every_size() {
    golden::each(&cases("dinov2"), |case| {
        let (model, forward) = (golden::load(case), Forward::open(case));
        assert_eq!(model.kind(), Kind::Image);
        let image = image(&model);
        for batch in 0..forward.batches() {
            let near = |name: &str, ours: Vec<f32>| {
                let apart = largest_difference(&ours, &forward.floats(&format!("{batch}.{name}")));
                assert!(apart < STATES, "{case}: {name} of batch {batch} differs by {apart:e}");
            };
            let mut x = image.embed(forward.pixels(batch).tensor(&Device::flex()));
            near("embedded", host(x.clone()));
            let context = image.context(Mode::Inference);
            for (index, block) in image.layers().iter().enumerate() {
                x = block.forward(x, &context, None);
                near(&format!("hidden.{index}"), host(x.clone()));
            }
            near("states", host(image.finish(x)));
        }
    });
}

/// The cases with a head, and adapters, which have one too.
fn with_head(prefix: &str) -> Vec<String> {
    let has_head = |case: &String| Forward::open(case).0.names().any(|name| name.ends_with("logits"));
    cases(prefix).into_iter().filter(has_head).collect()
}

fn assert_scores(case: &str, model: &Model, forward: &Forward) {
    for batch in 0..forward.batches() {
        let pooled = model.network().pooled().unwrap();
        let scores = host(pooled.scores(&PooledInputs::Images(forward.pixels(batch)), Mode::Inference));
        let apart = largest_difference(&scores, &forward.floats(&format!("{batch}.logits")));
        assert!(apart < STATES, "{case}: scores of batch {batch} differ by {apart:e}");
    }
}

#[test]
fn scores_equal_the_reference_at_every_size() {
    golden::each(&with_head("dinov2"), |case| assert_scores(case, &golden::load(case), &Forward::open(case)));
}

/// Loss and gradients of a step split into micro-batches, by our paths.
fn step(model: &Model, rows: &[NamedArrays], size: usize, recompute: Recompute) -> (f64, Vec<(String, Vec<f32>)>) {
    let classes = Classes::unnamed(Problem::Single, model.classes().unwrap());
    let objective = Objective::Score(Score { recompute, from: Learned::Labels(classes), rows: rows_of(Kind::Image) });
    gradients::step(model, &objective, rows, size, batch)
}

#[test]
fn loss_and_every_gradient_equal_the_reference_however_a_step_is_split() {
    golden::each(&with_head("dinov2"), |case| {
        let (model, forward) = (golden::load(case).train_all(), Forward::open(case));
        let rows = forward.rows();
        let expected = f64::from(forward.floats("loss")[0]);
        for (size, recompute) in
            [(8, Recompute::Off), (8, Recompute::Blocks), (2, Recompute::Off), (1, Recompute::Blocks)]
        {
            let (loss, gradients) = step(&model, &rows, size, recompute);
            assert!((loss - expected).abs() < 1e-5 * expected, "{case}: loss {loss}, not {expected}");
            assert_gradients(case, |path| model.rules().to_theirs(path).unwrap(), gradients, &forward.0);
        }
    });
}

fn base_of(case: &str) -> String {
    let config = golden::json(&format!("{case}/adapter_config.json"));
    format!("images/{}", config["base_model_name_or_path"].as_str().unwrap().trim_start_matches("../"))
}

fn adapted(case: &str) -> (Model, PeftConfig) {
    let mut model = golden::load(&base_of(case));
    let config = adapter_folder::load(&mut model, &golden::path(case)).unwrap();
    (model, config)
}

#[test]
fn adapters_equal_pefts() {
    golden::each(&cases("lora-"), |case| {
        let ((model, config), forward) = (adapted(case), Forward::open(case));
        assert_scores(case, &model, &forward);
        let folder = tempfile::tempdir().unwrap();
        adapter_folder::save(&model, &config.method, config.base_model.as_deref().unwrap(), folder.path()).unwrap();
        let file = |folder: PathBuf| fs::read(folder.join("adapter_model.safetensors")).unwrap();
        assert!(file(folder.path().into()) == file(golden::path(case)), "{case}: written again, it is another file");
        let written = adapter_folder::read_config(folder.path()).unwrap();
        assert_eq!(written.method, config.method, "{case}");
        for key in ["task_type", "auto_mapping", "base_model_name_or_path", "peft_type", "bias", "modules_to_save"] {
            assert_eq!(written.raw.get(key), config.raw.get(key), "{case}: {key}");
        }
        let model = model.train_active();
        let theirs = tensors::read(&folder.path().join("adapter_model.safetensors"));
        for (size, recompute) in [(8, Recompute::Off), (2, Recompute::Blocks)] {
            let (loss, gradients) = step(&model, &forward.rows(), size, recompute);
            let expected = f64::from(forward.floats("loss")[0]);
            assert!((loss - expected).abs() < 1e-5 * expected, "{case}: loss {loss}, not {expected}");
            assert_eq!((gradients.len(), model.trained_parameters().len()), (theirs.len(), theirs.len()), "{case}");
            let name = |path: &str| match path.split_once(".adapter.") {
                Some((module, factor)) => {
                    let weight = model.name_for_peft(&format!("{module}.weight")).unwrap();
                    let factor = match factor {
                        "a" => "lora_A.weight",
                        "b" => "lora_B.weight",
                        _ => "lora_magnitude_vector",
                    };
                    format!("base_model.model.{}.{factor}", weight.strip_suffix(".weight").unwrap())
                }
                None => format!("base_model.model.{}", model.name_for_peft(path).unwrap()),
            };
            assert_gradients(case, name, gradients, &forward.0);
        }
    });
}

/// PEFT on transformers before its fifth version named modules as files do.
#[test]
fn adapters_may_be_named_as_files_are() {
    for case in ["images/lora-dinov2", "images/lora-dinov2-registers"] {
        let renamed = |text: &str| {
            let (q, k, v, o) = (
                "attention.attention.query",
                "attention.attention.key",
                "attention.attention.value",
                "attention.output.dense",
            );
            let text = text.replace("attention.q_proj", q).replace("attention.k_proj", k);
            text.replace("attention.v_proj", v).replace("attention.o_proj", o)
        };
        let folder = tempfile::tempdir().unwrap();
        let mut config = golden::json(&format!("{case}/adapter_config.json"));
        let targets = config["target_modules"].as_array().unwrap().iter().map(|name| match name.as_str().unwrap() {
            "q_proj" => "query",
            "k_proj" => "attention.key",
            "v_proj" => "attention.attention.value",
            "o_proj" => "attention.output.dense",
            other => other,
        });
        config["target_modules"] = json!(targets.collect::<Vec<_>>());
        fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        let theirs = tensors::read(&golden::path(case).join("adapter_model.safetensors"));
        let old: Tensors = theirs.iter().map(|(name, values)| (renamed(name), values.clone())).collect();
        assert_ne!(old.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
        tensors::write(folder.path(), "adapter_model", &old);
        let mut model = golden::load(&base_of(case));
        let config = adapter_folder::load(&mut model, folder.path()).unwrap();
        assert_scores(case, &model, &Forward::open(case));
        // Written again, it has the names that PEFT reads today.
        let again = tempfile::tempdir().unwrap();
        adapter_folder::save(&model, &config.method, "base", again.path()).unwrap();
        assert_eq!(distance_of_sets(&tensors::read(&again.path().join("adapter_model.safetensors")), &theirs), 0.0);
        let written = adapter_folder::read_config(again.path()).unwrap();
        let sorted = |value: &Value| {
            let mut names: Vec<String> = serde_json::from_value(value.clone()).unwrap();
            names.sort();
            names
        };
        let expected = golden::json(&format!("{case}/adapter_config.json"));
        assert_eq!(sorted(&written.raw["target_modules"]), sorted(&expected["target_modules"]), "{case}");
    }
}

#[test]
fn merged_classifiers_equal_merge_and_unload() {
    golden::each(&cases("lora-"), |case| {
        let (mut model, _) = adapted(case);
        model.merge();
        let folder = tempfile::tempdir().unwrap();
        model.save_weights(folder.path(), None::<Dtype>, None).unwrap();
        let base = Checkpoint::open(golden::path(&base_of(case))).unwrap();
        let merged = tensors::read(&golden::path(case).join("merged.safetensors"));
        let ours = Checkpoint::open(folder.path()).unwrap();
        for view in ours.tensors() {
            let values = view.to_f32().unwrap();
            let expected = merged.get(view.name).cloned().unwrap_or_else(|| {
                // A base without a head has no prefix.
                let bare = view.name.strip_prefix("dinov2.").unwrap_or(view.name);
                let view = base.find(view.name).or_else(|| base.find(bare)).unwrap();
                tensors::Values { shape: view.shape.to_vec(), values: view.to_f32().unwrap() }
            });
            let apart = distance(&values, &expected.values);
            assert!(apart < 1e-6 && *view.shape == expected.shape, "{case}: {} is {apart:e} away", view.name);
        }
        assert!(merged.keys().all(|name| ours.find(name).is_some()), "{case}");
    });
}

#[test]
fn a_folder_saved_again_is_the_same_bytes() {
    for case in cases("dinov2") {
        let (folder, model) = (tempfile::tempdir().unwrap(), golden::load(&case));
        model.save_weights(folder.path(), None::<Dtype>, None).unwrap();
        let file = |folder: PathBuf| fs::read(folder.join("model.safetensors")).unwrap();
        assert!(file(folder.path().into()) == file(golden::path(&case)), "{case}");
        let config: Value = serde_json::from_str(&model.config_json(None::<Dtype>)).unwrap();
        assert_eq!(config, golden::json(&format!("{case}/config.json")), "{case}");
    }
}

#[test]
fn a_new_head_makes_a_classifier_of_what_had_none_and_takes_the_place_of_others() {
    for (base, class) in [
        ("images/dinov2-bare", "Dinov2ForImageClassification"),
        ("images/dinov2-registers", "Dinov2WithRegistersForImageClassification"),
    ] {
        let mut model = golden::load(base);
        model.become_classifier(40, 7).unwrap();
        assert_eq!((model.classes(), model.kind()), (Some(40), Kind::Image));
        let folder = tempfile::tempdir().unwrap();
        model.save_weights(folder.path(), None::<Dtype>, None).unwrap();
        fs::write(folder.path().join("config.json"), model.config_json(None::<Dtype>)).unwrap();
        let config: Value = serde_json::from_str(&model.config_json(None::<Dtype>)).unwrap();
        assert_eq!((&config["architectures"], &config["id2label"]["39"]), (&json!([class]), &json!("LABEL_39")));
        let weights = tensors::read_folder(folder.path());
        let (weight, bias) = (&weights["classifier.weight"], &weights["classifier.bias"]);
        let deviation =
            (weight.values.iter().map(|value| value * value).sum::<f32>() / weight.values.len() as f32).sqrt();
        assert!((deviation - 0.02).abs() < 0.002 && weight.shape == [40, 48], "{base}: {deviation}");
        assert!(bias.values.iter().all(|value| *value == 0.0) && bias.shape == [40]);
        let others = weights.keys().filter(|name| !name.starts_with("classifier.")).collect::<Vec<_>>();
        assert!(others.iter().all(|name| name.starts_with("dinov2")), "{base}: {others:?}");
        let again = Model::load(folder.path(), firebrand_models::Hold::F32, &Device::flex()).unwrap();
        assert_eq!(again.classes(), Some(40));
    }
}

fn run(case: &str, overrides: &[&str]) -> Trained {
    let overrides: Vec<&str> = overrides.iter().copied().chain(["log.tensorboard=false"]).collect();
    train(&golden::path(case).join("recipe.toml"), &overrides).unwrap_or_else(|error| panic!("{case}: {error}"))
}

fn near(what: &str, ours: f64, theirs: &Value, relative: f64) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= relative * theirs.abs(), "{what}: {ours} instead of {theirs}");
}

/// Without the key biases, whose gradient is rounding alone: Adam makes steps of it, and scores do not see them.
fn comparable(weights: &Tensors) -> Tensors {
    let is_key = |name: &str| name.ends_with("attention.key.bias") || name.ends_with("k_proj.bias");
    weights.iter().filter(|(name, _)| !is_key(name)).map(|(name, it)| (name.clone(), it.clone())).collect()
}

/// Scores of all rows of a trajectory.
fn outputs(case: &str, model: &Model) -> Vec<f32> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(golden::path(case).join("rows")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    let model = model.for_inference();
    let scores = |path: &PathBuf| {
        let file = SafetensorsFile::open(path).unwrap();
        let view = file.get("pixel_values").unwrap();
        let shape = [1, view.shape[0], view.shape[1], view.shape[2]];
        let pixels = PooledInputs::Images(Pixels { values: view.to_f32().unwrap(), shape });
        host(model.network().pooled().unwrap().scores(&pixels, Mode::Inference))
    };
    files.iter().flat_map(scores).collect()
}

#[test]
fn every_step_and_the_end_equal_the_reference() {
    golden::each(&cases("trajectory-"), |case| {
        let expected = golden::json(&format!("{case}/expected.json"));
        let trained = run(case, &[]);
        assert_eq!(trained.outcome, Outcome::Finished);
        let steps = expected["steps"].as_array().unwrap();
        assert_eq!(trained.steps.len(), steps.len(), "{case}");
        for (ours, theirs) in trained.steps.iter().zip(steps) {
            let what = |name: &str| format!("{case}: step {}: {name}", ours.step);
            near(&what("loss"), ours.loss, &theirs["loss"], 1e-5);
            near(&what("gradient norm"), ours.grad_norm, &theirs["grad_norm"], 5e-5);
            near(&what("accuracy"), ours.parts.get("accuracy").unwrap(), &theirs["accuracy"], 1e-12);
            near(&what("f1"), ours.parts.get("f1").unwrap(), &theirs["f1"], 1e-12);
            assert_eq!(ours.tokens, theirs["rows"].as_u64().unwrap(), "{}", what("rows"));
            let rate = theirs["learning_rate"].as_f64().unwrap();
            assert!((ours.learning_rate - rate).abs() < 1e-15, "{}: {}", what("rate"), ours.learning_rate);
        }
        let rounding = |key: &str| expected["rounding"][key].as_f64().unwrap();
        let end = tensors::read(&golden::path(case).join("final.safetensors"));
        let apart = distance_of_sets(&comparable(&trained.weights), &comparable(&end));
        let way = rounding("way_travelled");
        assert!(apart < 1e-4 && apart < way / 500.0, "{case}: ends {apart:e} away after a way of {way:e}");
        let theirs = tensors::read(&golden::path(case).join("outputs.safetensors"));
        let apart = largest_difference(&outputs(case, &trained.model), &theirs["logits"].values);
        let moved = rounding("outputs_moved_by") as f32;
        assert!(apart < 5e-5 && apart < moved / 500.0, "{case}: scores end {apart:e} away after {moved:e}");
    });
}

#[test]
fn the_evaluation_at_the_end_equals_the_reference() {
    golden::each(&cases("trajectory-"), |case| {
        let expected = golden::json(&format!("{case}/expected.json"));
        let trained = run(case, &["eval.every=6"]);
        let last = trained.evaluations.last().unwrap();
        near(&format!("{case}: loss"), last.loss, &expected["eval"]["loss"], 2e-5);
    });
}

#[test]
fn no_split_into_micro_batches_and_no_recomputation_changes_a_run() {
    for case in ["images/trajectory-dinov2-full", "images/trajectory-dinov2-lora"] {
        let whole = run(case, &["train.micro_batch_size=4"]);
        for overrides in [
            ["train.micro_batch_size=1", "train.recompute=off"],
            ["train.micro_batch_size=2", "train.recompute=blocks"],
        ] {
            let other = run(case, &overrides);
            for (left, right) in whole.steps.iter().zip(&other.steps) {
                assert!((left.loss - right.loss).abs() < 1e-5 * left.loss, "{case}: {overrides:?}: {}", left.step);
            }
            let apart = distance_of_sets(&comparable(&other.weights), &comparable(&whole.weights));
            assert!(apart < 1e-5, "{case}: {overrides:?} end {apart:e} away");
        }
    }
}

#[test]
fn the_program_scores_and_measures_as_the_reference() {
    let workshop = Workshop::new();
    let case = "images/trajectory-dinov2-full";
    let theirs = tensors::read(&golden::path(case).join("outputs.safetensors"))["logits"].clone();
    let path = |name: &str| golden::path(name).display().to_string();
    let (recipe, run) = (path(&format!("{case}/recipe.toml")), workshop.path("run").display().to_string());
    workshop.succeed(&["train", &recipe, "--output", &run, "--set", "log.tensorboard=false"]);
    let rows = path(&format!("{case}/rows/rows.jsonl"));
    let model = workshop.path("run/model").display().to_string();
    workshop.succeed(&["score", "--model", &model, "--data", &rows, "--out", "scores.jsonl"]);
    let scored = workshop.read_rows("scores.jsonl");
    let logits = |row: &Value| -> Vec<f32> { serde_json::from_value(row["logits"].clone()).unwrap() };
    let ours: Vec<f32> = scored.iter().flat_map(logits).collect();
    assert_eq!(scored.len(), 10);
    let apart = largest_difference(&ours, &theirs.values[..ours.len()]);
    assert!(apart < 5e-5, "{apart:e}");
    assert!(scored.iter().all(|row| row["loss"].is_f64() && row["label"].is_u64()), "{}", scored[0]);
    let data = path(&format!("{case}/rows/eval.jsonl"));
    let said = workshop.succeed(&["eval", "--model", &model, "--data", &data, "--json"]);
    let measured: Value = serde_json::from_str(&said.stdout).unwrap();
    let expected = golden::json(&format!("{case}/expected.json"));
    for name in ["loss", "accuracy", "f1"] {
        near(name, measured[name].as_f64().unwrap(), &expected["eval"][name], 2e-5);
    }
}
