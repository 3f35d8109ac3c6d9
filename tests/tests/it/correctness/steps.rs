//! Rows 1, 2, 15 and 19: what a step is.

use std::path::Path;

use firebrand::objective::{Gradients, Recompute, Sft, StepScale};
use firebrand::observer::StepReport;
use firebrand_adapters::Mode;
use firebrand_datasets::TokenBatch;
use firebrand_tests::golden::{self, host};
use firebrand_tests::tensors::distance;
use firebrand_tests::training::{prepare, train};

use crate::workshop::{Workshop, assert_says};

const GOLDEN: &str = "trajectory-lora";

/// Loss and all gradients of a step made of these micro-batches.
fn step(size: usize) -> (f64, Vec<f32>, Vec<TokenBatch>) {
    let ready = prepare(&golden::path(GOLDEN).join("recipe.toml"), &[]).unwrap();
    let packs: Vec<_> = ready.data.train.epoch(1, 0).packs.iter().take(12).collect();
    let batch = |packs| ready.data.train.batch(packs).unwrap().into_tokens().unwrap();
    let batches: Vec<TokenBatch> = packs.chunks(size).map(batch).collect();
    let scale = StepScale::new(batches.iter());
    let (mut loss, mut gradients, mut first_row) = (0.0, Gradients::default(), 0);
    for batch in &batches {
        let mode = Mode::Training { key: 1, first_row };
        let sft = Sft { recompute: Recompute::Off, ..Sft::default() };
        loss += sft.accumulate(ready.model.network(), batch, &scale, mode, &mut gradients);
        first_row += batch.rows;
    }
    let all = gradients.values().flat_map(|gradient| host(gradient.clone())).collect();
    (loss, all, batches)
}

/// Row 1.
#[test]
fn accumulation_never_averages_means() {
    let (whole_loss, whole, _) = step(12);
    for size in [1, 2, 3, 5] {
        let (loss, gradients, batches) = step(size);
        assert!((loss - whole_loss).abs() < 1e-5 * whole_loss, "micro-batches of {size}: {loss} {whole_loss}");
        let apart = distance(&gradients, &whole);
        assert!(apart < 1e-5, "micro-batches of {size}: gradients are {apart:e} away");
        // The rows must be such that the mistake would show.
        let tokens: Vec<usize> = batches.iter().map(TokenBatch::labelled_tokens).collect();
        assert!(tokens.iter().any(|count| *count != tokens[0]), "{tokens:?}");
    }
}

/// Row 2.
#[test]
fn a_partial_window_is_a_step_of_its_own() {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &(0..5).map(crate::workshop::chat_row).collect::<Vec<_>>());
    // A rate so small that no weight moves, so that losses can be compared.
    let still =
        ["data.packing=false", "data.shuffle=false", "train.steps=6", "optimizer={kind=\"sgd\",learning_rate=1e-30}"];
    let run = |batch: &str, rows: &[usize]| {
        workshop.write_rows("rows.jsonl", &rows.iter().map(|row| crate::workshop::chat_row(*row)).collect::<Vec<_>>());
        let batch = format!("train.batch_size={batch}");
        let path = format!("data.train.0.path={}", workshop.path("rows.jsonl").display());
        let overrides: Vec<&str> = still.iter().copied().chain([batch.as_str(), path.as_str()]).collect();
        train(&workshop.path("recipe.toml"), &overrides).unwrap().steps
    };
    let steps = run("2", &[0, 1, 2, 3, 4]);
    let alone = run("1", &[4]);
    assert_eq!(steps.iter().map(|step| step.epoch).collect::<Vec<_>>(), [0.4, 0.8, 1.0, 1.4, 1.8, 2.0]);
    let near = |left: f64, right: f64| assert!((left - right).abs() < 1e-6 * right, "{left} {right}");
    assert_eq!(steps[2].tokens, alone[0].tokens, "the partial window has its own tokens");
    near(steps[2].loss, alone[0].loss);
    near(steps[2].grad_norm, alone[0].grad_norm);
    for (first, second) in steps[..3].iter().zip(&steps[3..]) {
        assert_eq!(first.tokens, second.tokens, "nothing leaks into the next epoch");
        near(first.loss, second.loss);
    }
}

/// Row 6, as a run does it.
#[test]
fn a_packed_step_is_the_step_of_its_rows() {
    let workshop = Workshop::new();
    let step = |packing: &str| {
        let overrides = ["train.steps=1", "train.batch_size=10", packing];
        let recipe = workshop.path("recipe.toml");
        let train = prepare(&recipe, &overrides).unwrap().data.train;
        let packs = train.packs(7, 0);
        (packs, train.longest().map(|row| train.length(row)), train_once(&recipe, &overrides))
    };
    let (packed_in, longest, packed) = step("data.packing=true");
    let (apart_in, _, apart) = step("data.packing=false");
    assert_eq!(apart_in, 10, "a row each");
    assert!(packed_in <= 5 && longest < Some(128), "{packed_in} windows: the mistake would show");
    assert_eq!(packed.tokens, apart.tokens);
    // Sums of f32 in another order.
    let near = |left: f64, right: f64| assert!((left - right).abs() < 1e-5 * right, "{left} {right}");
    near(packed.loss, apart.loss);
    near(packed.grad_norm, apart.grad_norm);
}

fn train_once(recipe: &Path, overrides: &[&str]) -> StepReport {
    let mut steps = train(recipe, overrides).unwrap().steps;
    assert_eq!(steps.len(), 1, "all rows in one step");
    steps.remove(0)
}

/// Row 15.
#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint() {
    let workshop = Workshop::new();
    let message = workshop.fail(&[
        "train",
        "recipe.toml",
        "--set",
        "optimizer={kind=\"sgd\",learning_rate=1e30}",
        "--set",
        "checkpoint.every=1",
        "--set",
        "data.packing=false",
    ]);
    assert_says!(message, "step 2", "not finite", "data.jsonl:", "learning_rate");
    let checkpoint = firebrand::run::Checkpoints::new(&workshop.path("run")).newest_whole().unwrap().checkpoint;
    assert_eq!(checkpoint.unwrap().step, 1);
    let logged = workshop.read_rows("run/metrics.jsonl");
    assert_eq!(logged.len(), 1, "nothing hides in the log: {logged:?}");
    assert!(logged[0]["loss"].as_f64().unwrap().is_finite());
    assert!(!workshop.path("run/adapter").exists(), "no result of a failed run");
}

/// Row 15.
#[test]
fn an_evaluation_that_is_no_number_names_the_rows_it_is_of() {
    let workshop = Workshop::new();
    workshop.write_rows("eval.jsonl", &(20..24).map(crate::workshop::chat_row).collect::<Vec<_>>());
    let mut arguments = vec!["train", "recipe.toml"];
    for setting in [
        "optimizer={kind=\"sgd\",learning_rate=1e30}",
        "data.eval.0.path=eval.jsonl",
        "data.packing=false",
        "eval.every=1",
        "eval.batch_size=1",
    ] {
        arguments.extend(["--set", setting]);
    }
    let message = workshop.fail(&arguments);
    assert_says!(&message, "step 1", "evaluation loss", "not finite", "eval.jsonl:1");
    assert!(!message.contains("eval.jsonl:2"), "{message}");
}

/// Row 19.
#[test]
fn warm_up_is_not_one_step_off() {
    let workshop = Workshop::new();
    let schedule = "schedule={kind=\"linear\",warmup_steps=2}";
    let steps = train(&workshop.path("recipe.toml"), &[schedule, "train.steps=6"]).unwrap().steps;
    let rates: Vec<f64> = steps.iter().map(|step| step.learning_rate / 1e-2).collect();
    for (ours, expected) in rates.iter().zip([0.0, 0.5, 1.0, 0.75, 0.5, 0.25]) {
        assert!((ours - expected).abs() < 1e-12, "{rates:?}");
    }
}

/// As in the reference, where the experts of a layer are one parameter: weight decay acts on those no token went to.
#[test]
fn idle_experts_decay_like_the_others() {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &[serde_json::json!({ "input_ids": [5, 5], "labels": [5, 5] })]);
    let overrides = [
        &format!("model={}", golden::path("mixtral").display()),
        "data.packing=false",
        "data.train.0.format=tokens",
        "train.steps=1",
        "train.batch_size=1",
        "train.micro_batch_size=1",
        "train.max_grad_norm=off",
        "optimizer={kind=\"sgd\",learning_rate=0.1,weight_decay=0.1}",
        "schedule={kind=\"constant\",warmup_steps=0}",
    ];
    let recipe = golden::path("trajectory-mixtral-full").join("recipe.toml");
    let path = format!("data.train.0.path={}", workshop.path("data.jsonl").display());
    let overrides: Vec<&str> = overrides.iter().copied().chain([path.as_str()]).collect();
    let trained = train(&recipe, &overrides).unwrap().weights;
    let before = firebrand_tests::tensors::read_folder(&golden::path("mixtral"));
    let decayed_only = |name: &&String| {
        let pairs = before[*name].values.iter().zip(&trained[*name].values);
        pairs.into_iter().all(|(before, after)| (before * 0.99 - after).abs() < 1e-6)
    };
    let experts: Vec<&String> = before.keys().filter(|name| name.contains("experts")).collect();
    let idle = experts.iter().filter(|name| decayed_only(name)).count();
    assert!(idle > 0 && idle < experts.len(), "{idle} of {} matrices of experts are idle", experts.len());
    for name in experts {
        assert!(before[name].values != trained[name].values, "{name} is as it was");
    }
}
