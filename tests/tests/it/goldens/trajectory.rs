//! The strongest claim: N steps of training equal the reference's, one by one, and end at the same weights.

use std::collections::BTreeSet;
use std::path::PathBuf;

use firebrand::objective::{EvalMetrics, Parts};
use firebrand::training::Outcome;
use firebrand_tests::golden;
use firebrand_tests::tensors::{self, distance_of_sets};
use firebrand_tests::training::{Trained, train};
use serde_json::Value;

fn recipe(case: &str) -> PathBuf {
    golden::path(case).join("recipe.toml")
}

fn run(case: &str, overrides: &[&str]) -> Trained {
    let overrides: Vec<&str> = overrides.iter().copied().chain(["log.tensorboard=false"]).collect();
    train(&recipe(case), &overrides).unwrap_or_else(|error| panic!("{case}: {error}"))
}

fn near(what: &str, ours: f64, theirs: &Value, relative: f64) -> f64 {
    let theirs = theirs.as_f64().unwrap();
    let apart = (ours - theirs).abs();
    assert!(apart <= relative * theirs.abs(), "{what}: {ours} instead of {theirs}");
    if apart == 0.0 { 0.0 } else { apart / theirs.abs() }
}

/// The numbers beside the loss. Rewards are differences of log-probabilities, and have the rounding of these.
fn parts_near(what: &impl Fn(&str) -> String, ours: &Parts, theirs: &Value) {
    let Some(theirs) = theirs.as_object() else { return };
    let names: Vec<&str> = ours.iter().map(|(name, _)| name).collect();
    let wanted: BTreeSet<&str> = theirs.keys().map(String::as_str).collect();
    assert_eq!(names, wanted.into_iter().collect::<Vec<_>>(), "{}", what("names"));
    let of_answers = theirs.iter().filter(|(name, _)| name.starts_with("logps/"));
    let largest = of_answers.map(|(_, value)| value.as_f64().unwrap().abs()).fold(0.0, f64::max);
    for (name, value) in theirs {
        let (ours, theirs) = (ours.get(name).unwrap(), value.as_f64().unwrap());
        let apart = (ours - theirs).abs();
        assert!(apart <= 1e-5 * theirs.abs().max(largest), "{}: {ours} instead of {theirs}", what(name));
    }
}

#[test]
fn every_step_and_the_end_equal_the_reference() {
    let cases = golden::folders("trajectory-");
    assert!(cases.len() >= 5, "{cases:?}");
    golden::each(&cases, |case| {
        equals_the_reference(case, &[]);
    });
}

/// What computing in bf16 costs: tiny models with random weights react more than trained ones. Losses of preferences are made of
/// differences of log-probabilities, of which the difference of roundings is a larger share.
#[test]
fn in_bf16_every_step_is_near_the_reference() {
    let cases = golden::folders("trajectory-");
    golden::each(&cases, |case| {
        let expected = golden::json(&format!("{case}/expected.json"));
        let trained = run(case, &["dtype=bf16"]);
        assert_eq!(trained.outcome, Outcome::Finished);
        let steps = expected["steps"].as_array().unwrap();
        assert_eq!(trained.steps.len(), steps.len(), "{case}");
        let of_preferences = ["dpo", "orpo", "simpo", "kto"].iter().any(|name| case.contains(name));
        let bound = if of_preferences { 8e-2 } else { 1.5e-2 };
        let mut rounded = 0.0;
        for (ours, theirs) in trained.steps.iter().zip(steps) {
            let what = format!("{case}: step {}", ours.step);
            near(&what, ours.loss, &theirs["loss"], bound);
            near(&what, ours.grad_norm, &theirs["grad_norm"], 0.3);
            rounded = f64::max(rounded, (ours.loss / theirs["loss"].as_f64().unwrap() - 1.0).abs());
        }
        // It is not f32 by another name.
        assert!(rounded > 1e-5, "{case}: {rounded:e}");
    });
}

/// How far a run was from the reference's.
#[derive(Debug, Default)]
pub struct Apart {
    /// The largest relative distance of a loss.
    pub loss: f64,
    /// The largest relative distance of a gradient norm.
    pub norm: f64,
    /// The largest distance of a weight at the end.
    pub weights: f64,
}

/// Trains a case with some keys changed, and compares every step and the end with the reference.
pub fn equals_the_reference(case: &str, overrides: &[&str]) -> Apart {
    let mut largest = Apart::default();
    let expected = golden::json(&format!("{case}/expected.json"));
    let trained = run(case, overrides);
    assert_eq!(trained.outcome, Outcome::Finished);
    let steps = expected["steps"].as_array().unwrap();
    assert_eq!(trained.steps.len(), steps.len(), "{case}");
    for (ours, theirs) in trained.steps.iter().zip(steps) {
        let what = |name: &str| format!("{case}: step {}: {name}", ours.step);
        assert_eq!(ours.tokens, theirs["labelled_tokens"].as_u64().unwrap(), "{}", what("tokens"));
        // The contract allows 1e-4. Rounding alone moves the reference by a hundredth of this.
        largest.loss = largest.loss.max(near(&what("loss"), ours.loss, &theirs["loss"], 1e-5));
        largest.norm = largest.norm.max(near(&what("gradient norm"), ours.grad_norm, &theirs["grad_norm"], 5e-5));
        for part in ["router_aux_loss", "sft/ce", "sft/z_loss"] {
            assert_eq!(ours.parts.get(part).is_some(), theirs.get(part).is_some(), "{}", what(part));
            if let (Some(ours), Some(theirs)) = (ours.parts.get(part), theirs.get(part)) {
                near(&what(part), ours, theirs, 1e-5);
            }
        }
        parts_near(&what, &ours.parts, &theirs["parts"]);
        let rate = theirs["learning_rate"].as_f64().unwrap();
        assert!((ours.learning_rate - rate).abs() < 1e-15, "{}: {}", what("rate"), ours.learning_rate);
    }
    let evaluations = expected["eval"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(trained.evaluations.len(), evaluations.len(), "{case}");
    for (ours, theirs) in trained.evaluations.iter().zip(evaluations) {
        assert_eq!(ours.step, theirs["step"].as_u64().unwrap());
        let what = |name: &str| format!("{case}: evaluation at step {}: {name}", ours.step);
        near(&what("loss"), ours.loss, &theirs["loss"], 1e-5);
        if let EvalMetrics::Numbers(parts) = &ours.metrics {
            parts_near(&what, parts, &theirs["parts"]);
        }
    }
    let end = tensors::read(&golden::path(case).join("final.safetensors"));
    let apart = distance_of_sets(&trained.weights, &end);
    let way = expected["rounding"]["way_travelled"].as_f64().unwrap();
    // The contract's 1e-4, and little beside the way: an optimiser that did nothing would be `way` away.
    assert!(apart < 1e-4 && apart < way / 500.0, "{case}: ends {apart:e} away after a way of {way:e}");
    Apart { weights: apart, ..largest }
}

#[test]
fn no_split_into_micro_batches_changes_the_result() {
    for (case, whole) in [
        ("trajectory-lora", "4"),
        ("trajectory-full", "5"),
        ("trajectory-z-loss-full", "4"),
        ("trajectory-mixtral-lora", "4"),
        ("trajectory-mixtral-router-full", "4"),
        ("trajectory-dpo-gemma2-lora", "4"),
        ("trajectory-orpo-llama-full", "4"),
        ("trajectory-simpo-gemma2-lora", "4"),
        ("trajectory-kto-llama-lora", "4"),
        ("trajectory-kto-gemma2-full", "4"),
    ] {
        let in_ones = run(case, &["train.micro_batch_size=1"]);
        for size in ["2", whole]
            .into_iter()
            .filter(|size| whole.parse::<usize>().unwrap() % size.parse::<usize>().unwrap() == 0)
        {
            let other = run(case, &[&format!("train.micro_batch_size={size}")]);
            for (left, right) in in_ones.steps.iter().zip(&other.steps) {
                let apart = (left.loss - right.loss).abs();
                assert!(apart < 1e-5 * left.loss, "{case}: step {}: {} {}", left.step, left.loss, right.loss);
                for (name, value) in left.parts.iter() {
                    let apart = (value - right.parts.get(name).unwrap()).abs();
                    // A reward is a difference of log-probabilities of some dozens.
                    assert!(apart < 1e-5 * value.abs().max(40.0), "{case}: step {}: {name}", left.step);
                }
            }
            let apart = distance_of_sets(&other.weights, &in_ones.weights);
            assert!(apart < 1e-5, "{case}: micro-batches of {size} end {apart:e} away");
        }
    }
}

#[test]
fn recomputing_blocks_changes_nothing() {
    for case in [
        "trajectory-lora",
        "trajectory-full-untied-biases",
        "trajectory-z-loss-full",
        "trajectory-opt-350m-full",
        "trajectory-mixtral-router-full",
        "trajectory-dpo-llama-full",
        "trajectory-orpo-gemma2-lora",
        "trajectory-kto-llama-lora",
    ] {
        let kept = run(case, &["train.recompute=off"]);
        let recomputed = run(case, &["train.recompute=blocks"]);
        let apart = distance_of_sets(&recomputed.weights, &kept.weights);
        assert!(apart < 1e-6, "{case}: ends {apart:e} away");
        let losses = |run: &Trained| run.steps.iter().map(|step| step.loss).collect::<Vec<_>>();
        for (left, right) in losses(&kept).iter().zip(losses(&recomputed)) {
            assert!((left - right).abs() < 1e-6 * left, "{case}: {left} {right}");
        }
    }
}

/// The rows of all cases fit into one window, in which they stand as they follow each other in the file.
#[test]
fn a_packed_step_of_judged_answers_is_the_step_of_its_rows() {
    for case in [
        "trajectory-dpo-llama-lora",
        "trajectory-dpo-gemma2-full",
        "trajectory-orpo-llama-full",
        "trajectory-kto-gemma2-lora",
    ] {
        let shared = ["train.epochs=1", "schedule.warmup_steps=0", "data.max_length=512", "eval.every=100"];
        let one = |more: &[&str]| run(case, &[&shared[..], more].concat()).steps.remove(0);
        let apart = one(&["train.batch_size=11", "train.micro_batch_size=11"]);
        // A pack is one pair; rows that are judged alone share one.
        let all = if case.contains("kto") { "1" } else { "11" };
        let [batch, micro] = ["batch_size", "micro_batch_size"].map(|key| format!("train.{key}={all}"));
        let packed = one(&["data.packing=true", &batch, &micro]);
        assert_eq!(apart.tokens, packed.tokens, "{case}");
        for (name, apart, packed) in
            [("loss", apart.loss, packed.loss), ("gradient norm", apart.grad_norm, packed.grad_norm)]
        {
            assert!((apart - packed).abs() < 2e-5 * apart.abs(), "{case}: {name}: {apart} apart, {packed} packed");
        }
        for (name, value) in apart.parts.iter() {
            let other = packed.parts.get(name).unwrap();
            assert!(
                (value - other).abs() < 1e-5 * value.abs().max(40.0),
                "{case}: {name}: {value} apart, {other} packed"
            );
        }
    }
}
