//! Runs for which memory is short: what is split, what is recomputed, what is said, and that the numbers stay.

use serde_json::{Value, json};

use crate::workshop::{RECIPE, Said, Workshop, assert_says, words};

/// A run of four rows a step, all of which go through the model at once. They are long, so that a row needs more than by what
/// the plans of two processes differ.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    let steps = "steps = 4\nbatch_size = 4\nmicro_batch_size = 4\nrecompute = \"off\"";
    let recipe = RECIPE.replace("steps = 3\nbatch_size = 2", steps);
    let recipe = recipe.replace("max_length = 128", "packing = false\nmax_length = 2048");
    workshop.write("recipe.toml", &format!("{recipe}[checkpoint]\nevery = 2\n"));
    let row = |number: usize| json!({"input_ids": (0..1000 + 37 * number).map(|id| 5 + (id * number) % 60).collect::<Vec<_>>()});
    workshop.write_rows("data.jsonl", &(1..9).map(row).collect::<Vec<_>>());
    workshop
}

/// Runs the program with so many bytes of memory.
fn run_within(workshop: &Workshop, bytes: u64, arguments: &[&str]) -> Said {
    let memory = format!("{}KiB", bytes as f64 / 1024.0);
    Said::from(workshop.command(arguments).env("FIREBRAND_MEMORY", memory).output().unwrap())
}

fn within(workshop: &Workshop, bytes: u64, arguments: &[&str]) -> Said {
    let said = run_within(workshop, bytes, arguments);
    assert_eq!(said.code, Some(0), "{arguments:?}\n{}{}", said.stdout, said.stderr);
    said
}

/// The bytes that a run needs by its plan, with some keys set.
fn needed(workshop: &Workshop, settings: &[&str]) -> u64 {
    let set: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let report = workshop.succeed(&[&["check", "recipe.toml", "--json"][..], &set].concat()).stdout;
    serde_json::from_str::<Value>(&report).unwrap()["memory_total"].as_u64().unwrap()
}

/// Memory for a need between these two: a plan fills 85 % of what is free.
fn between(less: u64, more: u64) -> u64 {
    assert!(less < more, "{less} {more}");
    (less + more) / 2 * 20 / 17
}

/// What of the log is computed: everything but the times.
fn log(workshop: &Workshop, output: &str) -> Vec<Value> {
    let mut lines = workshop.read_rows(&format!("{output}/metrics.jsonl"));
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("elapsed_seconds");
        line.remove("tokens_per_second");
    }
    lines
}

fn losses(workshop: &Workshop, output: &str) -> Vec<f64> {
    log(workshop, output).iter().filter_map(|line| line["loss"].as_f64()).collect()
}

fn memory_of(workshop: &Workshop, output: &str) -> Value {
    serde_json::from_slice::<Value>(&workshop.read(&format!("{output}/run.json"))).unwrap()["memory"].clone()
}

#[test]
fn a_micro_batch_that_does_not_fit_is_split_and_the_run_says_so() {
    let workshop = workshop();
    workshop.succeed(&["train", "recipe.toml", "--output", "whole"]);
    for size in [2, 1] {
        let key = format!("train.micro_batch_size={size}");
        let memory =
            between(needed(&workshop, &[&key]), needed(&workshop, &[&format!("train.micro_batch_size={}", 2 * size)]));
        let (named, split) = (format!("named-{size}"), format!("split-{size}"));
        workshop.succeed(&["train", "recipe.toml", "--output", &named, "--set", &key]);
        let said = within(&workshop, memory, &["train", "recipe.toml", "--output", &split]);
        let rows = if size == 1 { "have 1 row (" } else { "have 2 rows (" };
        assert_says!(words(&said.stderr), "memory are free, too little for 4 rows at once", rows);
        let report = within(&workshop, memory, &["check", "recipe.toml", "--json"]).stdout;
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["micro_batch_size"], &report["memory"]["rows"]), (&size.into(), &size.into()));
        assert_says!(report["notes"].to_string(), "too little for 4 rows at once");
        assert_eq!(memory_of(&workshop, &split)["micro_batch_size"], size, "the plan of the run");
        assert_eq!(log(&workshop, &split), log(&workshop, &named), "micro-batches of {size}");
        // Sums in another order: the last of seven digits.
        for (split, whole) in losses(&workshop, &split).iter().zip(losses(&workshop, "whole")) {
            assert!((split - whole).abs() < 1e-6 * whole, "micro-batches of {size}: {split} instead of {whole}");
        }
    }
}

/// Sums in the order in which the run began have its bytes, however much memory is free now.
#[test]
fn a_split_run_goes_on_split_and_ends_with_the_same_bytes() {
    let workshop = workshop();
    let memory = between(needed(&workshop, &["train.micro_batch_size=2"]), needed(&workshop, &[]));
    within(&workshop, memory, &["train", "recipe.toml"]);
    let result = |run: &str| (log(&workshop, run), workshop.read(&format!("{run}/adapter/adapter_model.safetensors")));
    let whole = result("run");
    let said = workshop.succeed(&["train", "recipe.toml", "--resume", "checkpoint-2"]);
    assert_says!(words(&said.stderr), "micro-batches have 2 rows, as when the run began");
    assert!(result("run") == whole, "the same bytes");
    assert_eq!(memory_of(&workshop, "run")["micro_batch_size"], 2);

    // With less memory it goes on, and says what that means.
    let of = |size: u64| needed(&workshop, &[&format!("train.micro_batch_size={size}")]);
    let less = (of(1) + of(2)) / 2;
    let said = within(&workshop, less, &["train", "recipe.toml", "--resume", "checkpoint-2"]);
    assert_says!(words(&said.stderr), "micro-batches have 1 row, and had 2 rows when the run began", "last digits");
    for (now, before) in losses(&workshop, "run").iter().zip(whole.0.iter().filter_map(|line| line["loss"].as_f64())) {
        assert!((now - before).abs() < 1e-6 * before, "{now} instead of {before}");
    }
    // A recipe that is changed by its user is followed.
    let said = workshop.succeed(&[
        "train",
        "recipe.toml",
        "--resume",
        "checkpoint-2",
        "--set",
        "train.micro_batch_size=4",
        "--set",
        "train.recompute=blocks",
    ]);
    assert!(!said.stderr.contains("when the run began"), "{}", said.stderr);
    assert_eq!(memory_of(&workshop, "run")["recompute"], "blocks");
}

#[test]
fn where_no_split_fits_the_run_is_refused_with_what_helps() {
    let workshop = workshop();
    let memory = needed(&workshop, &["train.micro_batch_size=1"]) - 1;
    let said = run_within(&workshop, memory, &["check", "recipe.toml"]);
    assert_eq!(said.code, Some(1));
    assert_says!(words(&said.stderr), "the run needs about", "no micro_batch_size fits", "recompute = \"blocks\"");
    let wrong =
        Said::from(workshop.command(&["check", "recipe.toml"]).env("FIREBRAND_MEMORY", "3 apples").output().unwrap());
    assert_eq!(wrong.code, Some(1));
    assert_says!(words(&wrong.stderr), "FIREBRAND_MEMORY is \"3 apples\"", "FIREBRAND_MEMORY=6GiB");
}
