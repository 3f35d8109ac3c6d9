//! Rows 13 and 14: keys of recipes that are misspelt, and keys that nothing reads.

use firebrand_tests::tensors::Tensors;
use firebrand_tests::training::train;

use crate::workshop::{RECIPE, Workshop, assert_says};

/// Row 13.
#[test]
fn a_misspelt_key_is_an_error_with_the_nearest_key_and_the_line() {
    let workshop = Workshop::new();
    workshop.write("recipe.toml", &RECIPE.replace("learning_rate", "learning_rat"));
    let line = 1 + RECIPE.lines().position(|line| line.starts_with("learning_rate")).unwrap();
    for verb in ["check", "train", "data"] {
        let message = workshop.fail(&[verb, "recipe.toml"]);
        assert_says!(message, "learning_rat", "learning_rate", &format!("recipe.toml:{line}"));
    }
    workshop.write("recipe.toml", RECIPE);
    assert_says!(workshop.fail(&["check", "recipe.toml", "--set", "train.stpes=3"]), "stpes", "steps");
}

/// Row 14. `recipe/tests/consumers.rs` names the reader of every key; this runs those that decide the result.
#[test]
fn every_key_of_training_changes_what_is_trained_and_the_others_do_not() {
    let workshop = Workshop::new();
    let recipe = workshop.path("recipe.toml");
    let run = |change: &str| -> Tensors {
        let overrides = ["train.batch_size=4", "train.steps=3", "train.micro_batch_size=2", change];
        let overrides = overrides.iter().copied().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        train(&recipe, &overrides).unwrap_or_else(|error| panic!("{change}: {error}")).weights
    };
    let plain = run("");
    for change in [
        "seed=8",
        "adapter.rank=3",
        "adapter.alpha=5.0",
        "adapter.dropout=0.3",
        "adapter.rslora=true",
        "adapter.targets=[\"q_proj\"]",
        "adapter.exclude=[\"q_proj\"]",
        "adapter.rank_pattern={q_proj=1}",
        "adapter.alpha_pattern={q_proj=1.0}",
        "data.packing=false",
        "data.shuffle=false",
        "data.max_length=100",
        "data.train_on=all",
        "data.template=zephyr",
        "data.system=Be kind.",
        "data.train.0.weight=2.0",
        "train.batch_size=2",
        "train.steps=2",
        "train.max_grad_norm=0.01",
        "objective={kind=\"sft\",label_smoothing=0.1}",
        "objective={kind=\"sft\",z_loss=0.01}",
        "objective={kind=\"sft\",neftune_alpha=5.0}",
        "optimizer.learning_rate=1e-3",
        "optimizer.betas=[0.5, 0.999]",
        "optimizer.eps=0.1",
        "optimizer.weight_decay=0.5",
        "optimizer={kind=\"sgd\",learning_rate=1e-2}",
        "optimizer.layer_decay=0.5",
        "schedule={kind=\"linear\",warmup_steps=0}",
        "schedule={kind=\"cosine\",warmup_steps=0}",
        "schedule.warmup_steps=1",
        "schedule={kind=\"cosine-with-restarts\",warmup_steps=0,cycles=2}",
        "schedule={kind=\"polynomial\",warmup_steps=0,power=2.0}",
        "schedule={kind=\"inverse-sqrt\",warmup_steps=0,timescale=1}",
        "schedule={kind=\"warmup-stable-decay\",warmup_steps=0,decay_steps=2}",
    ] {
        assert!(run(change) != plain, "{change} changes nothing");
    }
    for change in [
        "log.noise_scale=true",
        "train.ema=0.9",
        "log.every=2",
        "checkpoint.every=1",
        "checkpoint.keep=1",
        "eval.every=1",
        "log.tensorboard=true",
    ] {
        assert!(run(change) == plain, "{change} changes what is trained");
    }
}
