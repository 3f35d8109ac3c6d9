//! `train --find-lr`.

use crate::workshop::{Workshop, assert_says};

#[test]
fn looking_for_a_rate_prints_a_table_draws_a_curve_and_leaves_the_run_alone() {
    let workshop = Workshop::new();
    let said = workshop.succeed(&["train", "recipe.toml", "--find-lr", "--lr-steps", "60"]);
    assert_says!(&said.stdout, "smoothed", "1.000e-4", "suggested    learning_rate = ", "run.find-lr.svg");
    assert_says!(&said.stderr, "60 steps visit each row", "train.batch_size");
    assert!(!workshop.path("run").exists(), "no run directory");
    let svg = String::from_utf8(workshop.read("run.find-lr.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains("learning rate"), "{svg}");
    // The run begins as if nobody had looked, and the table is the same again.
    workshop.succeed(&["train", "recipe.toml"]);
    let before = workshop.read("run/metrics.jsonl");
    let again = workshop.succeed(&["train", "recipe.toml", "--find-lr", "--lr-steps", "60"]);
    assert_eq!(said.stdout, again.stdout);
    assert!(workshop.read("run/metrics.jsonl") == before);
}

#[test]
fn the_rates_are_those_that_are_asked_for() {
    let workshop = Workshop::new();
    let ask = ["train", "recipe.toml", "--find-lr", "--lr-steps", "20", "--lr-from", "1e-6", "--lr-to", "1e-1"];
    assert_says!(workshop.succeed(&ask).stdout, "1.000e-6");
    let wrong = ["train", "recipe.toml", "--find-lr", "--lr-from", "1", "--lr-to", "0.1"];
    assert_says!(workshop.fail(&wrong), "the rate cannot grow from 1 to 0.1", "--lr-to");
    let relative = "optimizer={kind=\"adafactor\",learning_rate=\"relative\"}";
    let schedule = "schedule={kind=\"constant\",warmup_steps=0}";
    let relative = ["train", "recipe.toml", "--find-lr", "--set", relative, "--set", schedule];
    assert_says!(workshop.fail(&relative), "leaves nothing to look for", "learning_rate");
}

#[test]
fn rows_that_end_too_soon_are_told_what_is_needed() {
    let workshop = Workshop::new();
    let short = ["train", "recipe.toml", "--find-lr", "--set", "data.train.0.epochs=1"];
    assert_says!(workshop.fail(&short), "takes at least 20 steps, and the rows end after", "epochs");
}
