//! Sequence classifiers and reward models against transformers, PEFT and TRL: scores, losses, every gradient, adapters,
//! whole runs.

use std::collections::HashMap;
use std::path::PathBuf;

use firebrand::objective::{Gradients, Learned, Objective, Recompute, Score};
use firebrand::training::Outcome;
use firebrand_adapters::Mode;
use firebrand_datasets::{
    Batch, BatchContent, Class, Classes, Label, Pack, Problem, RowKind, RowLabel, TokenBatch, Tokens,
};
use firebrand_models::adapter_folder;
use firebrand_models::families::ClassNames;
use firebrand_models::weights::Dtype;
use firebrand_models::{Kind, Model};
use firebrand_tests::golden::{self, Forward, host};
use firebrand_tests::tensors::{self, distance, distance_of_sets, largest_difference};
use firebrand_tests::training::{Trained, train};
use serde_json::Value;

use crate::workshop::Workshop;

const ROOM: &str = "classifiers/";
/// Scores here are a few units large; each is a sum of some dozens of products in f32.
const SCORES: f32 = 2e-5;
/// Distance of two gradients by their length.
const RELATIVE: f64 = 2e-5;
/// The length of a gradient that is zero but for rounding, where others are around 0.1.
const NOTHING: f64 = 1e-6;

fn cases(adapters: bool) -> Vec<String> {
    let folders = golden::folders_in(ROOM, "").into_iter().filter(|name| !name.starts_with("trajectory-"));
    let chosen = folders.filter(|name| name.starts_with("adapter-") == adapters);
    chosen.map(|name| format!("{ROOM}{name}")).collect()
}

fn trajectories() -> Vec<String> {
    golden::folders_in(ROOM, "trajectory-").into_iter().map(|name| format!("{ROOM}{name}")).collect()
}

fn problem_of(expected: &Value) -> Problem {
    match expected["problem"].as_str().unwrap() {
        "single" => Problem::Single,
        "multi" => Problem::Multi,
        _ => Problem::Regression,
    }
}

/// The rows of a case as tokens with their labels.
fn rows(case: &str) -> Vec<Tokens> {
    let text = std::fs::read_to_string(golden::path(case).join("rows.jsonl")).unwrap();
    let class = |value: &Value| Class::Number(value.as_f64().unwrap());
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let ids: Vec<u32> = serde_json::from_value(row["input_ids"].clone()).unwrap();
        let label = match &row["label"] {
            Value::Array(items) => Label::Several(items.iter().map(class).collect()),
            value => Label::One(class(value)),
        };
        Tokens {
            labels: vec![-100; ids.len()],
            weights: vec![0.0; ids.len()],
            input_ids: ids,
            label: Some(RowLabel { label: Some(label), weight: 1.0 }),
            ..Tokens::default()
        }
    };
    text.lines().map(row).collect()
}

/// Rows in packs of `packed`, and these in micro-batches of `size`.
fn batches(rows: &[Tokens], packed: usize, size: usize) -> Vec<(Batch, Mode)> {
    let numbers: Vec<usize> = (0..rows.len()).collect();
    let packs: Vec<Pack> = numbers
        .chunks(packed)
        .map(|of| Pack { examples: of.to_vec(), length: of.iter().map(|row| rows[*row].input_ids.len()).sum() })
        .collect();
    let mut first_row = 0;
    let batch = |packs: &[Pack]| {
        let mode = Mode::Training { key: 0, first_row };
        first_row += packs.len();
        let examples = packs.iter().map(|pack| pack.examples.clone()).collect();
        (Batch { examples, parts: vec![], content: BatchContent::Tokens(TokenBatch::new(rows, packs)) }, mode)
    };
    packs.chunks(size).map(batch).collect()
}

#[test]
fn scores_losses_and_every_gradient_equal_the_reference_however_a_step_is_split() {
    golden::each(&cases(false), |case| {
        let expected = golden::json(&format!("{case}/expected.json"));
        let forward = Forward::open(case);
        let model = golden::load(case);
        assert_eq!(model.kind(), Kind::Classifier, "{case}");
        let classes = Classes::unnamed(problem_of(&expected), model.classes().unwrap());
        let rows = rows(case);
        let model = model.train_all();
        for (packed, size, recompute) in
            [(1, 8, Recompute::Off), (1, 3, Recompute::Blocks), (3, 2, Recompute::Off), (8, 1, Recompute::Off)]
        {
            let what = format!("{case}: packs of {packed} in micro-batches of {size}");
            let objective =
                Objective::Score(Score { recompute, from: Learned::Labels(classes.clone()), rows: RowKind::Tokens });
            let mut gradients = Gradients::default();
            let step = objective.accumulate(model.network(), &batches(&rows, packed, size), &mut gradients).unwrap();
            let near = |name: &str, ours: f64, bound: f64| {
                let theirs = expected[name].as_f64().unwrap();
                assert!((ours - theirs).abs() <= bound, "{what}: {name} {ours}, not {theirs}");
            };
            let loss = step.loss.wait();
            near("loss", loss, 1e-5 * loss);
            if classes.problem == Problem::Regression {
                assert_eq!(step.parts.get("accuracy"), None, "{what}");
            } else {
                near("accuracy", step.parts.get("accuracy").unwrap(), 1e-12);
                near("f1", step.parts.get("f1").unwrap(), 1e-12);
            }
            assert_gradients(&what, &model, &gradients, &forward);
        }
    });
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

/// Every gradient; one that is absent here, of an expert that no token reached, is zero there.
fn assert_gradients(what: &str, model: &Model, gradients: &Gradients, forward: &Forward) {
    let shapes: HashMap<&str, &[usize]> =
        model.base_parameters().iter().map(|info| (info.path.as_str(), info.shape.as_slice())).collect();
    let mut ours: HashMap<String, Vec<f32>> = gradients
        .iter()
        .map(|(path, gradient)| {
            let values = model.rules().layout(path).convert(host(gradient.clone()), shapes[path]);
            (model.rules().to_theirs(path).unwrap(), values)
        })
        .collect();
    assert!(ours.contains_key("score.weight"), "{what}");
    for (name, theirs) in forward.gradients() {
        let ours = ours.remove(&name).unwrap_or_else(|| vec![0.0; theirs.len()]);
        let nothing = norm(&theirs) < NOTHING && norm(&ours) < NOTHING;
        let apart = distance(&ours, &theirs);
        assert!(nothing || apart < RELATIVE, "{what}: the gradient of {name} is {apart:e} away");
    }
    assert!(ours.is_empty(), "{what}: no gradient of {:?}", ours.keys());
}

/// What `score` writes of the rows of a case.
fn scored(workshop: &Workshop, case: &str, model: &str, adapter: bool) -> Vec<Value> {
    let path = |name: &str| golden::path(name).display().to_string();
    let data = format!("{}/rows.jsonl", path(case));
    let mut arguments = vec!["score", "--model", model, "--data", &data, "--out", "scores.jsonl"];
    let folder = path(case);
    if adapter {
        arguments.extend(["--adapter", &folder]);
    }
    workshop.succeed(&arguments);
    workshop.read_rows("scores.jsonl")
}

fn logits(rows: &[Value]) -> Vec<f32> {
    let of =
        |row: &Value| row["logits"].as_array().unwrap().iter().map(|score| score.as_f64().unwrap() as f32).collect();
    rows.iter().flat_map(|row| -> Vec<f32> { of(row) }).collect()
}

#[test]
fn the_program_scores_and_measures_as_the_reference() {
    let workshop = Workshop::new();
    golden::each(&cases(false), |case| {
        let expected = golden::json(&format!("{case}/expected.json"));
        let model = golden::path(case).display().to_string();
        let rows = scored(&workshop, case, &model, false);
        let apart = largest_difference(&logits(&rows), &Forward::open(case).floats("logits"));
        assert!(apart < SCORES, "{case}: scores are {apart:e} away");
        let mean = rows.iter().map(|row| row["loss"].as_f64().unwrap()).sum::<f64>() / rows.len() as f64;
        let loss = expected["loss"].as_f64().unwrap();
        assert!((mean - loss).abs() < 1e-5 * loss, "{case}: {mean}, not {loss}");
        for row in &rows {
            assert!(row.get("logprobs").is_none() && row["logits"].is_array() && row["tokens"].is_array(), "{row}");
        }
        let data = format!("{model}/rows.jsonl");
        let said = workshop.succeed(&["eval", "--model", &model, "--data", &data, "--json", "--batch-size", "3"]);
        let measured: Value = serde_json::from_str(&said.stdout).unwrap();
        for name in ["loss", "accuracy", "f1"] {
            match expected.get(name).and_then(Value::as_f64) {
                Some(theirs) => {
                    let ours = measured[name].as_f64().unwrap();
                    assert!((ours - theirs).abs() <= 1e-5 * theirs, "{case}: {name} {ours}, not {theirs}");
                }
                None => assert!(measured.get(name).is_none(), "{case}: {name}"),
            }
        }
    });
}

/// The base of an adapter, from its `adapter_config.json`.
fn base_of(case: &str) -> String {
    let config = golden::json(&format!("{case}/adapter_config.json"));
    config["base_model_name_or_path"].as_str().unwrap().trim_start_matches("../").to_owned()
}

#[test]
fn adapters_of_peft_turn_a_decoder_into_their_classifier() {
    let workshop = Workshop::new();
    golden::each(&cases(true), |case| {
        let (expected, theirs) = (golden::json(&format!("{case}/expected.json")), Forward::open(case).floats("logits"));
        let base = base_of(case);
        let mut model = golden::load(&base);
        let config = adapter_folder::load(&mut model, &golden::path(case)).unwrap();
        assert_eq!(
            (model.kind(), model.classes()),
            (Kind::Classifier, expected["classes"].as_u64().map(|n| n as usize))
        );
        assert!(model.notes().iter().all(|note| !note.contains("classifier")), "{case}: {:?}", model.notes());

        // Written again, the same tensors under the same task.
        let folder = tempfile::tempdir().unwrap();
        adapter_folder::save(&model, &config.method, "base", folder.path()).unwrap();
        let read = |folder: PathBuf| tensors::read(&folder.join("adapter_model.safetensors"));
        assert_eq!(distance_of_sets(&read(folder.path().into()), &read(golden::path(case))), 0.0, "{case}");
        let written = adapter_folder::read_config(folder.path()).unwrap();
        assert_eq!(written.raw["task_type"], "SEQ_CLS", "{case}");
        assert_eq!(written.raw["modules_to_save"], serde_json::json!(["score"]), "{case}");

        // The base says nothing of padding, so a copy with the reference's id is asked.
        let copy = workshop.path(&format!("{base}-padded"));
        std::fs::create_dir_all(&copy).unwrap();
        for entry in std::fs::read_dir(golden::path(&base)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
            }
        }
        let mut config = golden::json(&format!("{base}/config.json"));
        config["pad_token_id"] = expected["pad"].clone();
        std::fs::write(copy.join("config.json"), config.to_string()).unwrap();
        let copy = copy.display().to_string();
        let apart = largest_difference(&logits(&scored(&workshop, case, &copy, true)), &theirs);
        assert!(apart < SCORES, "{case}: scores are {apart:e} away");

        let adapter = golden::path(case).display().to_string();
        let merged = format!("merged-{}", base.replace('/', "-"));
        workshop.succeed(&["merge", "--model", &copy, "--adapter", &adapter, "--out", &merged, "--dtype", "f32"]);
        let weights = tensors::read_folder(&workshop.path(&merged));
        assert!(weights.contains_key("score.weight"), "{case}");
        assert!(weights.keys().all(|name| !name.contains("head") && !name.contains("embed_out")), "{case}: a head");
        let apart = largest_difference(&logits(&scored(&workshop, case, &merged, false)), &theirs);
        assert!(apart < 5.0 * SCORES, "{case}: merged, scores are {apart:e} away");
    });
}

#[test]
fn a_classifier_is_written_as_it_was_read() {
    golden::each(&cases(false), |case| {
        let model = golden::load(case);
        let folder = tempfile::tempdir().unwrap();
        model.save_weights(folder.path(), None::<Dtype>, None).unwrap();
        let apart = distance_of_sets(&tensors::read_folder(folder.path()), &tensors::read_folder(&golden::path(case)));
        assert_eq!(apart, 0.0, "{case}");
        let written: Value = serde_json::from_str(&model.config_json(None::<Dtype>)).unwrap();
        assert_eq!(written, golden::json(&format!("{case}/config.json")), "{case}");
    });
}

#[test]
fn a_new_head_is_drawn_with_the_deviation_of_new_matrices_and_says_what_it_is() {
    for (base, class) in [("gpt2", "GPT2ForSequenceClassification"), ("gemma3", "Gemma3TextForSequenceClassification")]
    {
        let mut model = golden::load(base);
        model.become_classifier(40, 7).unwrap();
        let names = ClassNames { names: (0..40).map(|n| format!("c{n}")).collect(), problem_type: Some("x".into()) };
        model.name_classes(&names);
        assert_eq!((model.kind(), model.class_names()), (Kind::Classifier, Some(names)));
        let config: Value = serde_json::from_str(&model.config_json(None::<Dtype>)).unwrap();
        assert_eq!(config["architectures"], serde_json::json!([class]));
        assert_eq!((&config["id2label"]["39"], &config["label2id"]["c39"]), (&"c39".into(), &39.into()));
        let folder = tempfile::tempdir().unwrap();
        model.save_weights(folder.path(), None::<Dtype>, None).unwrap();
        let weights = tensors::read_folder(folder.path());
        let score = &weights["score.weight"];
        let variance = score.values.iter().map(|value| value * value).sum::<f32>() / score.values.len() as f32;
        assert!((variance.sqrt() - 0.02).abs() < 0.002 && score.shape[0] == 40, "{base}: {}", variance.sqrt());
        assert!(!weights.keys().any(|name| name.contains("lm_head")), "{base}");
        let mut again = golden::load(base);
        again.become_classifier(40, 7).unwrap();
        again.save_weights(folder.path().join("again").as_path(), None::<Dtype>, None).unwrap();
        assert_eq!(distance_of_sets(&tensors::read_folder(&folder.path().join("again")), &weights), 0.0);
        assert!(again.become_classifier(3, 7).is_err(), "{base}: another number of classes");
    }
}

fn run(case: &str, overrides: &[&str]) -> Trained {
    let overrides: Vec<&str> = overrides.iter().copied().chain(["log.tensorboard=false"]).collect();
    let recipe = golden::path(case).join("recipe.toml");
    train(&recipe, &overrides).unwrap_or_else(|error| panic!("{case}: {error}"))
}

/// Names of what a step and an evaluation report beside the loss.
const NAMES: [&str; 6] =
    ["accuracy", "f1", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"];

#[test]
fn every_step_and_the_end_equal_the_reference() {
    let cases = trajectories();
    assert!(cases.len() >= 8, "{cases:?}");
    golden::each(&cases, |case| {
        let expected = golden::json(&format!("{case}/expected.json"));
        let trained = run(case, &[]);
        assert_eq!(trained.outcome, Outcome::Finished);
        let near = |what: &str, ours: f64, theirs: &Value, relative: f64, absolute: f64| {
            let theirs = theirs.as_f64().unwrap();
            let bound = relative * theirs.abs() + absolute;
            assert!((ours - theirs).abs() <= bound, "{case}: {what}: {ours} instead of {theirs}");
        };
        let steps = expected["steps"].as_array().unwrap();
        assert_eq!(trained.steps.len(), steps.len(), "{case}");
        for (ours, theirs) in trained.steps.iter().zip(steps) {
            let what = |name: &str| format!("step {}: {name}", ours.step);
            near(&what("loss"), ours.loss, &theirs["loss"], 1e-5, 1e-7);
            near(&what("gradient norm"), ours.grad_norm, &theirs["grad_norm"], 5e-5, 0.0);
            near(&what("rate"), ours.learning_rate, &theirs["learning_rate"], 0.0, 1e-15);
            for name in NAMES {
                assert_eq!(ours.parts.get(name).is_some(), theirs.get(name).is_some(), "{case}: {}", what(name));
                if let Some(value) = ours.parts.get(name) {
                    near(&what(name), value, &theirs[name], 1e-5, 2e-5);
                }
            }
        }
        let evaluations = expected["eval"].as_array().unwrap();
        assert_eq!(trained.evaluations.len(), evaluations.len(), "{case}");
        for (ours, theirs) in trained.evaluations.iter().zip(evaluations) {
            let what = |name: &str| format!("evaluation at {}: {name}", ours.step);
            near(&what("loss"), ours.loss, &theirs["loss"], 1e-5, 1e-7);
            let named: HashMap<&str, f64> = ours.metrics.named().into_iter().collect();
            for name in NAMES {
                assert_eq!(named.contains_key(name), theirs.get(name).is_some(), "{case}: {}", what(name));
                if let Some(value) = named.get(name) {
                    near(&what(name), *value, &theirs[name], 1e-5, 2e-5);
                }
            }
        }
        let end = tensors::read(&golden::path(case).join("final.safetensors"));
        let apart = distance_of_sets(&trained.weights, &end);
        let way = expected["rounding"]["way_travelled"].as_f64().unwrap();
        assert!(apart < 1e-4 && apart < way / 500.0, "{case}: ends {apart:e} away after a way of {way:e}");
    });
}

#[test]
fn no_split_no_packing_and_no_recomputation_changes_a_run() {
    for case in ["single-full", "multi-lora", "regression-full", "reward-lora", "reward-full"] {
        let case = &format!("{ROOM}trajectory-{case}");
        let whole = run(case, &["train.micro_batch_size=4"]);
        for change in [&["train.micro_batch_size=1"][..], &["train.micro_batch_size=1", "train.recompute=blocks"]] {
            let other = run(case, change);
            for (left, right) in whole.steps.iter().zip(&other.steps) {
                let apart = (left.loss - right.loss).abs();
                assert!(apart < 1e-5 * left.loss + 1e-7, "{case}: {change:?}: {} {}", left.loss, right.loss);
                for name in NAMES {
                    let [left, right] = [left, right].map(|step| step.parts.get(name));
                    let same = left.zip(right).is_none_or(|(left, right)| (left - right).abs() < 1e-5);
                    assert!(same && left.is_some() == right.is_some(), "{case}: {name}: {left:?} {right:?}");
                }
            }
            let apart = distance_of_sets(&other.weights, &whole.weights);
            assert!(apart < 1e-5, "{case}: {change:?}: ends {apart:e} away");
        }
        // All rows of an epoch in one step, alone or in windows: the same step.
        let settings = ["train.epochs=1", "schedule.kind=constant", "schedule.warmup_steps=0"];
        let alone = run(case, &[&settings[..], &["train.batch_size=11", "train.micro_batch_size=11"]].concat());
        let packed = ["train.batch_size=50", "train.micro_batch_size=1", "data.packing=true", "data.max_length=40"];
        let packed = run(case, &[&settings[..], &packed].concat());
        assert_eq!((alone.steps.len(), packed.steps.len()), (1, 1), "{case}");
        let (left, right) = (&alone.steps[0], &packed.steps[0]);
        assert!((left.loss - right.loss).abs() < 1e-5 * left.loss, "{case}: {} {}", left.loss, right.loss);
        let apart = distance_of_sets(&packed.weights, &alone.weights);
        assert!(apart < 1e-5, "{case}: packed, it ends {apart:e} away");
    }
}
