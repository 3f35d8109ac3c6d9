//! Evaluations during a run: which checkpoint is best, and when it is time to stop.

use firebrand::objective::Objective;
use firebrand::run::Checkpoints;
use firebrand::training::{Outcome, evaluate};
use firebrand_tests::training::{prepare, train};
use firebrand_tests::{tensors, tensors::distance_of_sets};

use crate::workshop::{Workshop, assert_says, chat_row};

/// A run that overfits: two rows to train on, others to evaluate on, a high rate.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &[chat_row(1), chat_row(3)]);
    workshop.write_rows("eval.jsonl", &(4..8).map(chat_row).collect::<Vec<_>>());
    workshop
}

const OVERFIT: [&str; 6] = [
    "data.eval.0.path=eval.jsonl",
    "train.steps=60",
    "optimizer.learning_rate=0.05",
    "eval.every=2",
    "checkpoint.every=1000",
    "checkpoint.keep=1",
];

#[test]
fn early_stopping_goes_back_to_the_best_evaluation() {
    let workshop = workshop();
    let recipe = workshop.path("recipe.toml");
    let overrides = [&OVERFIT[..], &["eval.early_stopping.patience=3"]].concat();
    let trained = train(&recipe, &overrides).unwrap();
    let Outcome::StoppedEarly { best } = trained.outcome else { panic!("{:?}", trained.outcome) };
    let losses: Vec<f64> = trained.evaluations.iter().map(|report| report.loss).collect();
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(best.value, lowest, "{losses:?}");
    assert_eq!(losses.len(), best.step as usize / 2 + 3, "three evaluations without a lower loss, then the end");
    // The model is the best one, and so is a checkpoint that stayed.
    let data = prepare(&recipe, &overrides).unwrap().data;
    let (model, rows) = (trained.model.for_inference(), data.eval.as_ref().unwrap());
    let again = evaluate(&Objective::of_kind(model.kind()), &model, rows, 4, |_, _| {}).unwrap().loss;
    assert!((again - best.value).abs() < 1e-6 * again, "{again} {}", best.value);
    let folder = trained.output.path().join(format!("checkpoint-{}", best.step));
    let kept = tensors::read(&folder.join("adapter_model.safetensors"));
    assert_eq!(distance_of_sets(&kept, &trained.weights), 0.0);
}

#[test]
fn the_best_checkpoint_stays_beside_the_newest() {
    let workshop = workshop();
    let trained = train(&workshop.path("recipe.toml"), &OVERFIT).unwrap();
    assert_eq!(trained.outcome, Outcome::Finished);
    let best = trained.evaluations.iter().min_by(|left, right| left.loss.total_cmp(&right.loss)).unwrap();
    assert!(best.step < 60, "the run overfits");
    let checkpoints = Checkpoints::new(trained.output.path()).list().unwrap();
    let steps: Vec<u64> = checkpoints
        .iter()
        .map(|status| match status {
            firebrand::run::CheckpointStatus::Whole(checkpoint) => checkpoint.step,
            firebrand::run::CheckpointStatus::Broken(broken) => panic!("{broken}"),
        })
        .collect();
    assert_eq!(steps, [60, best.step]);
}

#[test]
fn the_program_says_that_it_stopped_early() {
    let workshop = workshop();
    let mut arguments = vec!["train", "recipe.toml", "--set", "eval.early_stopping.patience=3"];
    arguments.extend(OVERFIT.iter().flat_map(|text| ["--set", text]));
    let said = workshop.succeed(&arguments);
    assert_says!(&said.stderr, "stopped early", "lowest");
    assert!(workshop.path("run/adapter/adapter_model.safetensors").exists());
    let evaluations = workshop.read_rows("run/metrics.jsonl");
    let lowest = evaluations.iter().filter_map(|line| line["eval_loss"].as_f64()).fold(f64::INFINITY, f64::min);
    let eval = ["eval", "--model", "model", "--adapter", "run/adapter", "--data", "eval.jsonl", "--json"];
    let report: serde_json::Value = serde_json::from_str(&workshop.succeed(&eval).stdout).unwrap();
    assert!((report["loss"].as_f64().unwrap() - lowest).abs() < 1e-6 * lowest, "{report} {lowest}");
}
