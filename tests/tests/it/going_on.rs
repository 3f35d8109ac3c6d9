//! Runs that are gone on with: what may change and is named, what may not, and what a finished run says.

use serde_json::{Value, json};

use crate::workshop::{RECIPE, Said, Workshop, assert_says, chat_row, words};

fn info(workshop: &Workshop) -> Value {
    serde_json::from_slice(&workshop.read("run/run.json")).unwrap()
}

/// `train recipe.toml --resume` with these settings, and flags.
fn resume(workshop: &Workshop, settings: &[&str], flags: &[&str]) -> Said {
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    workshop.run(&[&["train", "recipe.toml", "--resume"], &settings[..], flags].concat())
}

fn refused(workshop: &Workshop, settings: &[&str], expected: &[&str]) {
    let before = (workshop.read("run/recipe.toml"), workshop.read("run/run.json"));
    let said = resume(workshop, settings, &[]);
    assert_eq!(said.code, Some(1), "{settings:?}: {}", said.stderr);
    let message = words(&said.stderr);
    for word in expected {
        assert!(message.contains(word), "{settings:?}: no {word:?} in: {message}");
    }
    assert!((workshop.read("run/recipe.toml"), workshop.read("run/run.json")) == before, "the folder is as it was");
}

#[test]
fn a_finished_run_says_that_nothing_is_left_and_what_to_raise() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml"]);
    let said = resume(&workshop, &[], &[]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_says!(&said.stderr, "nothing left to do: step 3 of 3; raise train.steps", "adapter.init_from=run/adapter");
    assert!(!said.stderr.contains("step 3/3"), "{}", said.stderr);
    // A recipe by which nothing is trained does not become that of the run; one of other results does.
    let before = workshop.read("run/recipe.toml");
    let said = resume(&workshop, &["optimizer.learning_rate=1e-5"], &[]);
    assert_says!(&said.stderr, "optimizer.learning_rate 0.01 -> 0.00001: no step is left that it acts on");
    assert!(workshop.read("run/recipe.toml") == before && info(&workshop).get("history").is_none());
    assert_eq!(resume(&workshop, &["export.merge=true"], &[]).code, Some(0));
    assert!(workshop.path("run/model/model.safetensors").exists());
    assert_eq!(info(&workshop)["history"][0]["changed"], json!({"export.merge": [false, true]}));
    // By epochs, the other key. Fewer steps than are done are no other case.
    let epochs = Workshop::new();
    epochs.write("recipe.toml", &RECIPE.replace("steps = 3", "epochs = 1"));
    epochs.succeed(&["train", "recipe.toml"]);
    assert_says!(&resume(&epochs, &[], &[]).stderr, "nothing left to do", "raise train.epochs");
    assert_says!(
        &resume(&workshop, &["train.steps=2"], &[]).stderr,
        "nothing left to do: step 3 of 2; raise train.steps"
    );
}

#[test]
fn more_steps_go_on_and_tell_the_rate_and_the_keys() {
    let workshop = Workshop::new();
    let recipe = RECIPE.replace("kind = \"constant\"", "kind = \"cosine\"");
    workshop.write("recipe.toml", &recipe.replace("[log]", "[checkpoint]\nevery = 1\n[log]"));
    workshop.succeed(&["train", "recipe.toml"]);
    let said = resume(&workshop, &["train.steps=6", "optimizer.learning_rate=0.02"], &[]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    // Cosine from 1e-2 over 3 steps, then from 2e-2 over 6, half way.
    assert_says!(
        &said.stderr,
        "resume   from run/checkpoint-3, after step 3 of 6",
        "changed  train.steps 3 -> 6",
        "changed  optimizer.learning_rate 0.01 -> 0.02",
        "schedule that of 6 steps from here on: the learning rate was 2.50e-3 at step 3 and is 1.00e-2 at step 4",
    );
    let rates: Vec<f64> =
        workshop.read_rows("run/metrics.jsonl").iter().map(|line| line["learning_rate"].as_f64().unwrap()).collect();
    assert_eq!(rates.len(), 6);
    assert!((rates[2] - 2.5e-3).abs() < 1e-12 && (rates[3] - 1e-2).abs() < 1e-12, "{rates:?}");
}

/// Row 48.
#[test]
fn a_changed_recipe_is_named_and_becomes_that_of_the_run() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml"]);
    let began = info(&workshop);
    assert!(began.get("history").is_none());
    assert_eq!(resume(&workshop, &["train.steps=5", "train.max_grad_norm=0.5"], &[]).code, Some(0));
    let now = info(&workshop);
    assert_ne!(began["recipe"], now["recipe"]);
    let recipe = String::from_utf8(workshop.read("run/recipe.toml")).unwrap();
    assert_says!(&recipe, "steps = 5", "max_grad_norm = 0.5");
    assert_eq!(now["recipe"].as_str().unwrap().len(), 64);
    let history = now["history"].as_array().unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0]["step"], 3);
    assert_eq!(history[0]["changed"], json!({"train.steps": [3, 5], "train.max_grad_norm": [1.0, 0.5]}));
    assert!(history[0]["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&now["started"], &now["command"]), (&began["started"], &began["command"]));
    // The folder's own recipe goes on without a change.
    let said = workshop.succeed(&["train", "run/recipe.toml", "--resume", "checkpoint-3"]);
    assert!(!said.stderr.contains("changed"), "{}", said.stderr);
    assert_eq!(info(&workshop)["history"].as_array().unwrap().len(), 2);
}

/// Row 48.
#[test]
fn a_run_does_not_become_another_one() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml"]);
    let more = "train.steps=5";
    for (setting, expected) in [
        ("seed=8", "seed 7 -> 8"),
        ("train.batch_size=4", "train.batch_size 2 -> 4"),
        ("adapter.alpha=8.0", "adapter.alpha 4.0 -> 8.0"),
        ("adapter.targets=[\"q_proj\"]", "adapter.targets all-linear -> [\"q_proj\"]"),
    ] {
        refused(&workshop, &[more, setting], &["checkpoint-3 cannot go on", expected, "init_from"]);
    }
    let lion = "optimizer={kind=\"lion\",learning_rate=1e-3}";
    refused(&workshop, &[more, lion], &["optimizer.kind adamw -> lion", "optimizer.safetensors"]);
    for (setting, expected) in [
        ("data.max_length=64", "data.max_length 128 -> 64"),
        ("data.packing=false", "data.packing true -> false"),
        ("data.train_on=last", "data.train_on assistant -> last"),
    ] {
        refused(&workshop, &[more, setting], &["rows are not those", expected, "--changed-data"]);
    }
    refused(&workshop, &[more, "base_dtype=bf16"], &["base_dtype f32 -> bf16", "--changed-base"]);
    // What a split into micro-batches, logs and checkpoints is, may change.
    let said = resume(&workshop, &[more, "train.micro_batch_size=1", "checkpoint.every=1", "adapter.dropout=0.1"], &[]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

/// Row 48.
#[test]
fn a_changed_base_or_changed_rows_are_refused_unless_asked_for() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml"]);
    let rows = workshop.read("data.jsonl");
    // The same rows under another name are the same.
    std::fs::write(workshop.path("copy.jsonl"), &rows).unwrap();
    let moved = "data.train.0.path=copy.jsonl";
    assert_eq!(resume(&workshop, &["train.steps=4", moved], &[]).code, Some(0));
    workshop.write_rows("data.jsonl", &(3..13).map(chat_row).collect::<Vec<_>>());
    let back = "data.train.0.path=data.jsonl";
    refused(&workshop, &["train.steps=5", back], &["rows are not those", "data.jsonl", "--changed-data"]);
    let said = resume(&workshop, &["train.steps=5", back], &["--changed-data"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    // Weights that moved by one value.
    let mut weights = workshop.read("model/model.safetensors");
    let end = weights.len() - 2;
    weights[end] ^= 1;
    std::fs::write(workshop.path("model/model.safetensors"), weights).unwrap();
    refused(&workshop, &["train.steps=6"], &["base model", "model.safetensors changed", "--changed-base"]);
    let said = resume(&workshop, &["train.steps=6"], &["--changed-base"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_says!(&said.stderr, "changed  model.safetensors changed");
    let last = info(&workshop)["history"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["differences"], json!(["model.safetensors changed"]));
}

#[test]
fn a_checkpoint_that_was_rotated_away_is_answered_with_those_that_are_there() {
    let workshop = Workshop::new();
    let often = ["--set", "checkpoint.every=1", "--set", "train.steps=6"];
    workshop.succeed(&[&["train", "recipe.toml"], &often[..]].concat());
    for named in ["run/checkpoint-2", "checkpoint-2", "2"] {
        let message = workshop.fail(&[&["train", "recipe.toml", "--resume", named], &often[..]].concat());
        assert_says!(message, "no checkpoint-2; there are checkpoint-5, checkpoint-6");
    }
}

/// A run of which only the start was written, as a kill in its first steps leaves it.
fn failed_start(workshop: &Workshop) {
    workshop.succeed(&["train", "recipe.toml"]);
    for name in workshop.list("run") {
        if name.starts_with("checkpoint-") || name == "adapter" {
            std::fs::remove_dir_all(workshop.path(&format!("run/{name}"))).unwrap();
        }
    }
}

#[test]
fn a_run_that_stopped_before_its_first_checkpoint_does_not_block_its_folder() {
    let workshop = Workshop::new();
    workshop.write("recipe.toml", &RECIPE.replace("tensorboard = false", "tensorboard = true"));
    workshop.succeed(&["train", "recipe.toml", "--output", "whole"]);
    let adapter = |output: &str| workshop.read(&format!("{output}/adapter/adapter_model.safetensors"));
    for again in [&["train", "recipe.toml"][..], &["train", "recipe.toml", "--resume"]] {
        failed_start(&workshop);
        let said = workshop.succeed(again);
        assert_says!(&said.stderr, "before its first checkpoint", "metrics are replaced");
        assert!(adapter("run") == adapter("whole"), "{again:?}");
        assert_eq!(workshop.read_rows("run/metrics.jsonl").len(), 3);
        assert_eq!(workshop.list("run/tensorboard").len(), 1);
        std::fs::remove_dir_all(workshop.path("run")).unwrap();
    }
    // A letter of the user's is not ours to work around.
    failed_start(&workshop);
    workshop.write("run/letter", "mine");
    assert_says!(workshop.fail(&["train", "recipe.toml"]), "not empty");
    workshop.succeed(&["train", "recipe.toml", "--resume"]);
    assert_eq!(workshop.read("run/letter"), b"mine");
}

/// A run that overfits, so that its best evaluation is not its last.
fn overfits() -> Workshop {
    let workshop = Workshop::new();
    workshop.write_rows("data.jsonl", &[chat_row(1), chat_row(3)]);
    workshop.write_rows("eval.jsonl", &(4..8).map(chat_row).collect::<Vec<_>>());
    let recipe = RECIPE.replace("steps = 3", "steps = 40").replace("learning_rate = 1e-2", "learning_rate = 0.05");
    let rest = "[[data.eval]]\npath = \"eval.jsonl\"\n[eval]\nevery = 2\n[checkpoint]\nevery = 1000\n[train]";
    workshop.write("recipe.toml", &recipe.replace("[train]", rest));
    workshop
}

/// Row 49.
#[test]
fn the_weights_that_are_written_are_those_that_the_key_names_and_their_step_is_told() {
    let workshop = overfits();
    let run = |output: &str, settings: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        workshop.succeed(&[&["train", "recipe.toml", "--output", output], &settings[..]].concat()).stdout
    };
    let weights = |path: &str| workshop.read(&format!("{path}/adapter_model.safetensors"));
    let last = run("last", &[]);
    assert_says!(&last, "weights      of step 40, the last\n");
    let best = run("best", &["export.weights=best"]);
    let state: Value = serde_json::from_slice(&workshop.read("best/checkpoint-40/trainer_state.json")).unwrap();
    let step = state["best_global_step"].as_u64().unwrap();
    assert!(step < 40, "the run overfits");
    assert_says!(&best, &format!("weights      of step {step}, of the lowest evaluation loss"), "first ", "best ");
    assert_eq!(state["best_model_checkpoint"], json!(format!("best/checkpoint-{step}")));
    assert_eq!(state["epoch"].as_f64(), state["log_history"].as_array().unwrap().last().unwrap()["epoch"].as_f64());
    assert!(weights("best/adapter") == weights(&format!("best/checkpoint-{step}")));
    assert!(weights("last/adapter") == weights("last/checkpoint-40"));
    assert!(weights("last/adapter") != weights("best/adapter"));
    // Early stopping writes the best ones, unless told otherwise.
    let early = run("early", &["eval.early_stopping.patience=3"]);
    let kept: Vec<String> = workshop.list("early").into_iter().filter(|name| name.starts_with("checkpoint-")).collect();
    let name = kept.iter().find(|name| weights(&format!("early/{name}")) == weights("early/adapter")).unwrap();
    let best_early = name.trim_start_matches("checkpoint-");
    assert_says!(&early, &format!("of step {best_early}, of the lowest"), "best ", &format!("(step {best_early})\n"));
    let stopped = run("stopped", &["eval.early_stopping.patience=3", "export.weights=last"]);
    assert_says!(&stopped, "the last\n");
    // A finished run writes the other ones when it is asked to.
    let said = workshop.succeed(&["train", "last/recipe.toml", "--resume", "--set", "export.weights=best"]);
    assert_says!(&said.stdout, &format!("of step {step}, "));
    assert!(weights("last/adapter") == weights("best/adapter"));
    for setting in ["checkpoint.best=off", "data.eval=[]"] {
        let message = workshop.fail(&["check", "recipe.toml", "--set", "export.weights=best", "--set", setting]);
        assert_says!(message, "export.weights");
    }
}

/// Row 51.
#[test]
fn a_run_that_stopped_early_stays_stopped_until_it_is_given_patience() {
    let workshop = overfits();
    workshop.succeed(&["train", "recipe.toml", "--set", "eval.early_stopping.patience=3"]);
    let before = workshop.read("run/adapter/adapter_model.safetensors");
    let lines = workshop.read_rows("run/metrics.jsonl").len();
    let said = resume(&workshop, &["eval.early_stopping.patience=3"], &[]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_says!(&said.stderr, "nothing left to do: the run stopped early", "eval.early_stopping.patience");
    assert!(workshop.read("run/adapter/adapter_model.safetensors") == before);
    assert_eq!(workshop.read_rows("run/metrics.jsonl").len(), lines);
    let said = resume(&workshop, &["eval.early_stopping.patience=100"], &[]);
    assert_says!(&said.stderr, "resume   from", "of 40");
    assert!(workshop.path("run/checkpoint-40").exists());
}

#[test]
fn an_evaluation_before_the_first_step_is_logged_and_not_ranked() {
    let workshop = overfits();
    // A rate that changes nothing: all evaluations are equal, and the first of equals is the best.
    let rate = "optimizer.learning_rate=1e-30";
    let settings = ["--set", "eval.at_start=true", "--set", "train.steps=4", "--set", rate];
    let said = workshop.succeed(&[&["train", "recipe.toml"], &settings[..]].concat());
    assert_says!(&said.stderr, "step 0  eval loss");
    assert_says!(&said.stdout, "(step 0), last");
    let lines = workshop.read_rows("run/metrics.jsonl");
    assert_eq!((&lines[0]["step"], lines[0]["eval_loss"].is_number()), (&json!(0), true));
    assert_eq!(lines.iter().filter(|line| line["eval_loss"] == lines[0]["eval_loss"]).count(), 3);
    let state: Value = serde_json::from_slice(&workshop.read("run/checkpoint-4/trainer_state.json")).unwrap();
    assert_eq!(state["best_global_step"], 2);
    let message = workshop.fail(&["check", "recipe.toml", "--set", "eval.at_start=true", "--set", "data.eval=[]"]);
    assert_says!(message, "eval.at_start");
}

#[test]
fn questions_are_answered_during_training_and_change_nothing_of_it() {
    let workshop = Workshop::new();
    workshop.succeed(&["train", "recipe.toml", "--output", "without"]);
    let asked = "\n[sample]\nprompts = [\"Is it 3?\"]\nmax_new_tokens = 4\nevery = 2\n";
    workshop.write("recipe.toml", &(RECIPE.replace("tensorboard = false", "tensorboard = true") + asked));
    let said = workshop.succeed(&["train", "recipe.toml"]);
    assert_eq!(said.stderr.matches("  Is it 3?").count(), 1, "{}", said.stderr);
    assert_says!(&said.stderr, "step 2  Is it 3?");
    assert_says!(&said.stdout, "Is it 3?\n", "before  ", "after   ");
    let adapter = |output: &str| workshop.read(&format!("{output}/adapter/adapter_model.safetensors"));
    assert!(adapter("run") == adapter("without"));
    let events = workshop.read(&format!("run/tensorboard/{}", workshop.list("run/tensorboard")[0]));
    let count = |tag: &[u8]| events.windows(tag.len()).filter(|part| *part == tag).count();
    assert_eq!(count(b"sample/0"), 3, "before, after step 2, after the last");
    assert_eq!((count(b"_hparams_/session_start_info"), count(b"_hparams_/session_end_info")), (1, 1));
}

#[test]
fn a_run_tells_what_it_was_where_and_what_to_type_next() {
    let workshop = overfits();
    let said = workshop.succeed(&["train", "recipe.toml", "--set", "train.steps=4"]);
    assert_says!(
        &said.stdout,
        "time         ",
        " for 4 steps, 4.00 epochs\n",
        " labelled; ",
        "evaluation   first ",
        "next         firebrand generate --model model --adapter run/adapter --chat\n",
        "firebrand eval --model model --adapter run/adapter --data eval.jsonl\n",
        "firebrand merge --model model --adapter run/adapter --out run/merged\n",
    );
    let eval = said.stdout.lines().find(|line| line.contains("firebrand eval ")).unwrap();
    let command: Vec<&str> = eval.split_once("firebrand ").unwrap().1.split_whitespace().collect();
    workshop.succeed(&command);
    let info = info(&workshop);
    assert_eq!(info["device"], "cpu");
    assert!(info["host"]["threads"].as_u64().unwrap() > 0);
    let command: Vec<&str> = info["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(command[1..], ["train", "recipe.toml", "--set", "train.steps=4"]);
    assert!(info["started"].as_str().unwrap().contains('T'));
    let line = &workshop.read_rows("run/metrics.jsonl")[0];
    assert!(line["input_tokens"].as_u64() > line["tokens"].as_u64(), "{line}");
    assert_eq!(line["num_input_tokens"], line["input_tokens"]);
    let quiet = workshop.succeed(&["train", "recipe.toml", "--output", "quiet", "-q", "--set", "train.steps=4"]);
    assert_eq!(quiet.stderr, "");
    assert_says!(&quiet.stdout, "weights ", "adapter      quiet/adapter\n");
    assert!(!quiet.stdout.contains("next"), "{}", quiet.stdout);
}
