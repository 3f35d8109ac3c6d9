//! What a first recipe meets: defaults that train, and refusals of runs that would train nothing or not fit.

use serde_json::{Value, json};

use crate::workshop::{Workshop, assert_says};

/// The keys that every recipe has, and an adapter.
const SHORT: &str = r#"model = "model"
output = "run"
[adapter]
kind = "lora"
[[data.train]]
path = "data.jsonl"
[log]
tensorboard = false
"#;

fn report(workshop: &Workshop, arguments: &[&str]) -> Value {
    let said = workshop.succeed(&[&["check", "recipe.toml", "--json"], arguments].concat());
    serde_json::from_str(said.stdout.trim()).unwrap()
}

#[test]
fn the_shortest_recipe_trains_on_small_data() {
    let workshop = Workshop::new();
    workshop.write("recipe.toml", SHORT);
    let said = workshop.succeed(&["train", "recipe.toml"]);
    assert_says!(&said.stderr, "steps    10", "the run has 10 epochs");
    let rates: Vec<f64> =
        workshop.read_rows("run/metrics.jsonl").iter().filter_map(|line| line["learning_rate"].as_f64()).collect();
    assert_eq!((rates.len(), rates[0], rates[1]), (10, 0.0, 2e-4), "a warm-up of one step, then the full rate");
    // What was decided is written down, and is the same run.
    let resolved = String::from_utf8(workshop.read("run/recipe.toml")).unwrap();
    assert_says!(&resolved, "epochs = 10", "warmup_steps = 1");
    workshop.succeed(&["train", "run/recipe.toml", "--output", "again"]);
    let adapter = "adapter/adapter_model.safetensors";
    assert!(workshop.read(&format!("run/{adapter}")) == workshop.read(&format!("again/{adapter}")));
}

#[test]
fn sources_that_end_are_not_visited_more_often() {
    let workshop = Workshop::new();
    workshop.write("recipe.toml", SHORT);
    let ended = report(&workshop, &["--set", "data.train.0.epochs=2.0"]);
    assert_eq!(ended["steps"], json!(2));
    assert_says!(ended["notes"].to_string(), "the run has 2 epochs");
}

#[test]
fn one_step_by_default_has_the_full_rate() {
    let workshop = Workshop::new();
    workshop.write("recipe.toml", SHORT);
    workshop.succeed(&["train", "recipe.toml", "--set", "train.steps=1"]);
    assert_eq!(workshop.read_rows("run/metrics.jsonl")[0]["learning_rate"], json!(2e-4));
}

#[test]
fn a_run_whose_rate_is_always_zero_is_refused() {
    let workshop = Workshop::new();
    for (settings, key) in [
        (&["--set", "schedule.warmup_steps=10", "--set", "train.steps=1"][..], "schedule.warmup_steps"),
        (&["--set", "schedule.warmup_ratio=0.1", "--set", "train.steps=1"], "schedule.warmup_ratio"),
    ] {
        for verb in ["check", "train"] {
            let message = workshop.fail(&[&[verb, "recipe.toml"], settings].concat());
            assert_says!(message, "no step has a learning rate above zero", "the run has one step", key);
        }
    }
    // A recipe that is tried for a step keeps its warm-up; the file alone is refused.
    let recipe = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    let long = recipe.replace("warmup_steps = 0", "warmup_steps = 4");
    workshop.write("long.toml", &long);
    let said = workshop.succeed(&["check", "long.toml", "--set", "train.steps=1"]).stdout;
    assert_says!(&said, "no step of this try has a learning rate above zero");
    workshop.write("long.toml", &long.replace("\nsteps = 3", "\nsteps = 1"));
    assert_says!(workshop.fail(&["check", "long.toml"]), "no step has a learning rate above zero");
    // A decay that would begin before the warm-up ends is no curve.
    let decay = "schedule={kind=\"warmup-stable-decay\",warmup_steps=2,decay_steps=2}";
    for settings in
        [&["--set", decay][..], &["--set", decay, "--set", "schedule.decay_steps=2", "--set", "train.steps=3"]]
    {
        let message = workshop.fail(&[&["check", "recipe.toml"], settings].concat());
        assert_says!(message, "a warm-up of 2 steps and a decay of 2 do not fit into the 3 steps", "decay_steps");
    }
    // A warm-up that only never ends trains something, and is a note.
    let long = report(&workshop, &["--set", "schedule.warmup_steps=10"]);
    assert_says!(long["notes"].to_string(), "as long as the run");
    assert!(!workshop.path("run").exists());
}

#[test]
fn micro_batches_that_cannot_occur_are_not_counted() {
    let workshop = Workshop::new();
    let plan = |size: &str, length: &str| {
        let [batch, micro] = ["batch", "micro_batch"].map(|name| format!("train.{name}_size={size}"));
        let length = format!("data.max_length={length}");
        report(&workshop, &["--set", &batch, "--set", &micro, "--set", &length])["memory"].clone()
    };
    let (small, huge) = (plan("1", "1024"), plan("1048576", "1024"));
    assert_eq!((&small["rows"], &huge["rows"]), (&json!(1), &json!(1)), "ten short rows are one pack");
    assert_eq!(small["activations"], huge["activations"]);
    assert_eq!(plan("1", "8192")["activations"], small["activations"], "a window is as long as what is in it");
    assert_eq!(plan("4", "128")["rows"], json!(4));
}

#[test]
fn the_plan_counts_weights_as_they_are_held() {
    let workshop = Workshop::new();
    let weights = |dtype: &str| {
        let set = format!("base_dtype={dtype}");
        report(&workshop, &["--set", &set])["memory"]["weights"].as_u64().unwrap()
    };
    let (whole, half) = (weights("f32"), weights("bf16"));
    let blocks = whole - half;
    assert_eq!(half, weights("f16"));
    assert!(blocks * 2 < whole && blocks * 4 > whole, "{blocks} of {whole} bytes are saved");
}

#[test]
fn rows_beyond_the_positions_of_a_model_are_told() {
    let workshop = Workshop::new();
    let limit = serde_json::from_slice::<Value>(&workshop.read("model/config.json")).unwrap();
    let limit = limit["max_position_embeddings"].as_u64().unwrap() as usize;
    let row = |length: usize| json!({"input_ids": (0..length).map(|id| 5 + id % 60).collect::<Vec<_>>()});
    workshop.write_rows("data.jsonl", &[row(limit), row(limit + 1), row(limit + 30), row(8)]);
    let said = workshop.succeed(&["check", "recipe.toml", "--set", &format!("data.max_length={}", 2 * limit)]);
    let longest = format!("the longest with {} tokens at data.jsonl:3", limit + 30);
    let cut = format!("data.max_length = {limit}");
    assert_says!(&said.stdout, "warning: train data, beyond-positions: 2 of 4 rows", &longest, &cut, "(data.jsonl:2");
    let said = workshop.succeed(&["check", "recipe.toml", "--set", &format!("data.max_length={limit}")]);
    assert!(!said.stdout.contains("beyond-positions"), "{}", said.stdout);
}

#[test]
fn check_says_what_train_will_say_of_the_output() {
    let workshop = Workshop::new();
    assert!(!report(&workshop, &[])["notes"].to_string().contains("not empty"));
    std::fs::create_dir(workshop.path("run")).unwrap();
    workshop.write("run/letter", "mine");
    assert_says!(report(&workshop, &[])["notes"].to_string(), "the output run is not empty", "--resume", "--output");
    workshop.write("file", "");
    assert_says!(workshop.fail(&["check", "recipe.toml", "--set", "output=file"]), "file", "in the way");
}

#[test]
fn rates_and_ranks_that_are_usual_for_something_else_are_told() {
    let workshop = Workshop::new();
    let notes = |settings: &[&str]| -> String {
        let sets: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        report(&workshop, &sets)["notes"].to_string()
    };
    let lora = |rate: &str| notes(&[&format!("optimizer.learning_rate={rate}"), "train.steps=1"]);
    assert_says!(lora("5.0"), "far too high");
    assert_says!(lora("2e-6"), "usual for full fine-tuning");
    assert!(!lora("2e-4").contains("learning rate"));
    assert_says!(notes(&["adapter.rank=64"]), "adapter.rank = 64 is more than some matrices have");
    assert!(!notes(&[]).contains("rank"));
    let recipe = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    workshop.write("recipe.toml", &recipe.replace("[adapter]\nkind = \"lora\"\nrank = 2\nalpha = 4.0\n", ""));
    assert_says!(notes(&["optimizer.learning_rate=2e-4"]), "full fine-tuning takes 1e-6 to 5e-5");
    assert!(!notes(&["optimizer.learning_rate=1e-5"]).contains("fine-tuning"));
    assert!(!notes(&["optimizer.learning_rate=1e-3", "init=random"]).contains("fine-tuning"));
    let said = workshop.succeed(&["check", "recipe.toml"]).stdout;
    assert!(said.contains("trained\n") && !said.contains("0 modules"), "{said}");
}

#[test]
fn all_mistakes_of_a_recipe_are_shown_with_their_lines() {
    let workshop = Workshop::new();
    let recipe = String::from_utf8(workshop.read("recipe.toml")).unwrap();
    let wrong = recipe
        .replace("rank = 2", "lora_r = 2")
        .replace("data.jsonl", "gone.jsonl")
        .replace("steps = 3", "steps = \"3\"");
    workshop.write("recipe.toml", &wrong);
    for verb in ["check", "train", "data"] {
        let message = workshop.fail(&[verb, "recipe.toml"]);
        assert_says!(&message, "3 things are wrong", "recipe.toml:7", "rank = 2", "recipe.toml:14", "recipe.toml:17");
    }
    let said = workshop.run(&["check", "recipe.toml", "--json"]);
    let report: Value = serde_json::from_str(said.stdout.trim()).unwrap();
    assert_eq!(report["errors"].as_array().unwrap().len(), 3);
    assert_eq!(report["errors"][0]["line"], json!(7));
    workshop.write("recipe.yaml", "base_model: model\noutput_dir: run\nlora_r: 2\ndataset: data.jsonl\n");
    assert_says!(workshop.fail(&["train", "recipe.yaml"]), "this is YAML", "rank = 2", "[[data.train]]");
}
