//! Noise on embedded tokens (NEFTune): where it acts, and what it does not depend on.

use firebrand_tests::golden;
use firebrand_tests::training::{Trained, prepare, train};

use crate::workshop::Workshop;

/// A rate so small that no weight moves.
const STILL: [&str; 3] = ["optimizer={kind=\"sgd\",learning_rate=1e-30}", "train.epochs=2", "train.batch_size=23"];

fn run(case: &str, more: &[&str]) -> Trained {
    let overrides: Vec<&str> = STILL.iter().chain(more).copied().collect();
    train(&golden::path(case).join("recipe.toml"), &overrides).unwrap()
}

#[test]
fn noise_is_there_in_training_and_absent_in_evaluation() {
    for case in ["trajectory-lora", "trajectory-full"] {
        let without = run(case, &["train.micro_batch_size=23"]);
        let with = run(case, &["train.micro_batch_size=23", "objective={kind=\"sft\",neftune_alpha=20.0}"]);
        let apart = |left: f64, right: f64| (left - right).abs() > 1e-4 * left;
        assert!(apart(with.steps[0].loss, without.steps[0].loss), "{case}: noise acts in training");
        assert!(apart(with.steps[0].loss, with.steps[1].loss), "{case}: and differently in every step");
        let losses = |run: &Trained| run.evaluations.iter().map(|report| report.loss).collect::<Vec<_>>();
        assert_eq!(losses(&with), losses(&without), "{case}: evaluation adds none");
        assert!(!losses(&run(case, &["eval.every=1", "train.micro_batch_size=23"])).is_empty(), "{case}");
    }
}

#[test]
fn no_split_into_micro_batches_and_no_recomputation_changes_the_noise() {
    // Routers count their visits in a pass of their own, which must see the same noise.
    for (case, objective) in [
        ("trajectory-full", "objective={kind=\"sft\",neftune_alpha=20.0}"),
        ("trajectory-mixtral-router-full", "objective={kind=\"sft\",neftune_alpha=20.0,router_aux_loss=0.02}"),
    ] {
        let whole = run(case, &[objective, "train.micro_batch_size=23"]);
        for change in [&["train.micro_batch_size=1"][..], &["train.micro_batch_size=23", "train.recompute=blocks"]] {
            let other = run(case, &[&[objective], change].concat());
            for (left, right) in other.steps.iter().zip(&whole.steps) {
                let near = |left: f64, right: f64| assert!((left - right).abs() < 1e-5 * left, "{case} {change:?}");
                near(left.loss, right.loss);
                near(left.grad_norm, right.grad_norm);
                if let (Some(left), Some(right)) =
                    (left.parts.get("router_aux_loss"), right.parts.get("router_aux_loss"))
                {
                    near(left, right);
                }
            }
        }
    }
}

#[test]
fn no_packing_changes_the_noise_of_a_row() {
    let workshop = Workshop::new();
    let step = |packing: &str| {
        let recipe = workshop.path("recipe.toml");
        let objective = "objective={kind=\"sft\",neftune_alpha=20.0}";
        let overrides = ["train.steps=1", "train.batch_size=10", objective, packing];
        let packs = prepare(&recipe, &overrides).unwrap().data.train.packs(7, 0);
        (packs, train(&recipe, &overrides).unwrap().steps.remove(0))
    };
    let ((few, packed), (ten, apart)) = (step("data.packing=true"), step("data.packing=false"));
    assert!(few <= 5 && ten == 10, "{few} packs: the mistake would show");
    // Sums of f32 in another order.
    assert!((packed.loss - apart.loss).abs() < 1e-5 * apart.loss, "{} {}", packed.loss, apart.loss);
    assert!((packed.grad_norm - apart.grad_norm).abs() < 1e-5 * apart.grad_norm);
}
