//! The moving average of the trained weights: its values, what is evaluated and written of it, and that nothing else changes.

use firebrand_tests::golden;
use firebrand_tests::tensors::{self, Tensors};
use firebrand_tests::training::{Trained, train};
use serde_json::Value;

use crate::workshop::{Workshop, assert_says};

const DECAY: f64 = 0.75;

fn run(case: &str, more: &[&str]) -> Trained {
    let still = ["schedule={kind=\"constant\",warmup_steps=0}", "log.tensorboard=false"];
    let overrides: Vec<&str> = still.iter().chain(more).copied().collect();
    train(&golden::path(case).join("recipe.toml"), &overrides).unwrap_or_else(|error| panic!("{case}: {error}"))
}

fn assert_average(case: &str, average: &Tensors, before: &Tensors, weights: &Tensors) {
    assert_eq!(average.len(), weights.len());
    for (name, found) in average {
        for (index, found) in found.values.iter().enumerate() {
            let expected =
                DECAY as f32 * before[name].values[index] + (1.0 - DECAY) as f32 * weights[name].values[index];
            assert!((found - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{case}: {name}: {found} {expected}");
        }
    }
}

#[test]
fn the_average_of_every_step_is_that_of_the_formula() {
    for case in ["trajectory-full", "trajectory-lora"] {
        let after = |steps: usize| run(case, &[&format!("train.steps={steps}")]).weights;
        let average = |steps: usize| {
            let steps = format!("train.steps={steps}");
            run(case, &[&steps, &format!("train.ema={DECAY}"), "export.weights=ema"]).weights
        };
        let start = match case {
            "trajectory-full" => tensors::read_folder(&golden::path("llama-gqa-tied")),
            _ => tensors::read(&golden::path(case).join("adapter/adapter_model.safetensors")),
        };
        let mut before = start;
        for steps in 1..=3 {
            let found = average(steps);
            assert_average(case, &found, &before, &after(steps));
            before = found;
        }
    }
}

#[test]
fn what_is_trained_does_not_change_and_what_is_evaluated_does() {
    for case in ["trajectory-full", "trajectory-lora"] {
        let evaluated = |run: &Trained| run.evaluations.iter().map(|report| report.loss).collect::<Vec<_>>();
        let plain = run(case, &[]);
        let kept = run(case, &["train.ema=0.9"]);
        assert!(plain.weights == kept.weights, "{case}: other weights");
        assert_eq!(evaluated(&plain), evaluated(&kept));
        let of_average = run(case, &["train.ema=0.9", "eval.weights=ema"]);
        assert!(plain.weights == of_average.weights, "{case}: other weights");
        for (left, right) in evaluated(&of_average).iter().zip(evaluated(&plain)) {
            assert!((left - right).abs() > 1e-4 * right, "{case}: the average is another model: {left} {right}");
        }
        // An average that keeps nothing is the weights.
        let of_nothing = run(case, &["train.ema=1e-9", "eval.weights=ema"]);
        for (left, right) in evaluated(&of_nothing).iter().zip(evaluated(&plain)) {
            assert!((left - right).abs() < 1e-6 * right, "{case}: {left} {right}");
        }
    }
}

#[test]
fn the_average_is_written_where_it_is_asked_for_and_told() {
    let workshop = Workshop::new();
    let run = |output: &str, settings: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        workshop.succeed(&[&["train", "recipe.toml", "--output", output], &settings[..]].concat()).stdout
    };
    let weights = |path: &str| workshop.read(&format!("{path}/adapter_model.safetensors"));
    assert_says!(run("last", &["train.ema=0.9"]), "weights      of step 3, the last\n");
    assert_says!(
        run("averaged", &["train.ema=0.9", "export.weights=ema"]),
        "weights      the moving average at step 3, the last\n"
    );
    assert!(weights("last/adapter") == weights("averaged/checkpoint-3"));
    assert!(weights("last/adapter") != weights("averaged/adapter"));
    // A finished run writes it when it is asked to, and a run without one cannot begin it in its middle.
    let said = workshop.succeed(&["train", "last/recipe.toml", "--resume", "--set", "export.weights=ema"]);
    assert_says!(&said.stdout, "the moving average at step 3");
    assert!(weights("last/adapter") == weights("averaged/adapter"));
    run("without", &[]);
    let message = workshop.fail(&[
        "train",
        "without/recipe.toml",
        "--resume",
        "--set",
        "train.ema=0.9",
        "--set",
        "train.steps=5",
    ]);
    assert_says!(message, "train.ema (not there) -> 0.9");
    let plan = |setting: &str| -> Value {
        let said = workshop.succeed(&["check", "recipe.toml", "--json", "--set", setting]);
        serde_json::from_str::<Value>(&said.stdout).unwrap()["memory"]["average"].clone()
    };
    assert_eq!(plan("seed=1"), 0);
    assert!(plan("train.ema=0.9").as_u64() > Some(0));
}
