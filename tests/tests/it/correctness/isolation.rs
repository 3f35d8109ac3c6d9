//! Rows 6 and 20: rows that share a pack, and dropout.

use firebrand_datasets::TokenBatch;
use firebrand_tests::golden::{self, Forward, logits};
use firebrand_tests::tensors::largest_difference;
use firebrand_tests::training::train;

/// Row 6.
#[test]
fn changing_one_row_of_a_pack_moves_no_other() {
    for case in golden::models() {
        let (model, forward) = (golden::load(&case), Forward::open(&case));
        let batch = forward.batch("packed.");
        let vocabulary = golden::decoder(&model).config().vocab_size;
        let experts = model.has_routers();
        let before = logits(&model, &batch);
        let last = batch.segments[batch.length - 1];
        for changed in 1..=last {
            let swap = |(id, segment): (&i32, &i32)| match segment == &changed {
                true => (id + 1) % vocabulary as i32,
                false => *id,
            };
            let input_ids = batch.input_ids.iter().zip(&batch.segments).map(swap).collect();
            let after = logits(&model, &TokenBatch { input_ids, ..batch.clone() });
            for (place, segment) in batch.segments.iter().enumerate() {
                let range = place * vocabulary..(place + 1) * vocabulary;
                // Not by a single bit: another row's numbers do not even enter. Only an expert multiplies the tokens sent to it in
                // one matrix, and where a token stands in it may move the last bit.
                let bit = if experts { 1e-6 * largest(&before) } else { 0.0 };
                let moved = largest_difference(&before[range.clone()], &after[range]) > bit;
                assert_eq!(moved, *segment == changed, "{case}: row {changed} changed, place {place} of row {segment}");
            }
        }
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// Row 20.
#[test]
fn dropout_is_active_in_training_and_absent_in_evaluation() {
    // A rate so small that no weight moves; a trained adapter, so that it matters what is dropped.
    let run = |dropout: &str, more: &[&str]| {
        let dropout = format!("adapter.dropout={dropout}");
        let still = ["optimizer={kind=\"sgd\",learning_rate=1e-30}", "train.epochs=2", "train.batch_size=23"];
        let overrides: Vec<&str> = still.iter().chain(more).copied().chain([dropout.as_str()]).collect();
        train(&golden::path("trajectory-lora").join("recipe.toml"), &overrides).unwrap()
    };
    let init = format!("adapter.init_from={}", golden::path("lora-llama-gqa-tied").display());
    let adapter = [init.as_str(), "adapter.alpha=6.0", "train.micro_batch_size=23"];
    let (without, with) = (run("0.0", &adapter), run("0.4", &adapter));
    assert_eq!(without.steps[0].loss, without.steps[1].loss, "no dropout: both epochs give the same loss");
    let apart = |left: f64, right: f64| (left - right).abs() > 1e-3 * left;
    assert!(apart(with.steps[0].loss, without.steps[0].loss), "dropout acts in training");
    assert!(apart(with.steps[0].loss, with.steps[1].loss), "and differently in every step");
    let losses =
        |run: &firebrand_tests::training::Trained| run.evaluations.iter().map(|report| report.loss).collect::<Vec<_>>();
    assert!(!losses(&with).is_empty());
    assert_eq!(losses(&with), losses(&without), "evaluation drops nothing");

    // What is dropped depends on the row's place in the step, and not on how the step was split.
    let in_ones = run("0.4", &[init.as_str(), "adapter.alpha=6.0", "train.micro_batch_size=1"]);
    for (left, right) in in_ones.steps.iter().zip(&with.steps) {
        assert!((left.loss - right.loss).abs() < 1e-5 * left.loss, "{} {}", left.loss, right.loss);
    }
}
