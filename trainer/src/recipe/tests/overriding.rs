//! `--set`.

use std::path::PathBuf;

use super::super::*;
use super::{SHORTEST, load, shown};

fn set(overrides: &[&str]) -> Recipe {
    load(SHORTEST, overrides).map_err(|error| shown(&error)).unwrap()
}

#[test]
fn any_key_can_be_set() {
    assert_eq!(set(&["train.batch_size=8"]).train.batch_size, 8);
    assert_eq!(set(&["optimizer.learning_rate=1e-3"]).optimizer.learning_rate(0), 1e-3);
    assert_eq!(set(&["log.tensorboard=false"]).log, Log { every: 1, tensorboard: false, noise_scale: false });
    assert_eq!(set(&["output=runs/second run"]).output, PathBuf::from("runs/second run"));
    assert_eq!(set(&["output = \"runs/third\""]).output, PathBuf::from("runs/third"));
    let lora = set(&["adapter.kind=lora", "adapter.rank_pattern.\"layers.0.q_proj\"=4"]);
    assert!(matches!(lora.method, Method::Lora(lora) if lora.rank_pattern["layers.0.q_proj"] == 4));
    assert!(matches!(set(&["adapter={kind=\"lora\", rank=3}"]).method, Method::Lora(lora) if lora.rank == 3));
    assert_eq!(set(&["seed=1", "seed=2"]).seed, 2, "the last one counts");
}

#[test]
fn a_text_that_looks_like_a_number_stays_a_text() {
    assert_eq!(set(&["output=2025"]).output, PathBuf::from("2025"));
    assert_eq!(set(&["output=true"]).output, PathBuf::from("true"));
    assert_eq!(set(&["data.date=2025-01-31"]).data.date.as_deref(), Some("2025-01-31"));
}

#[test]
fn elements_of_lists_of_sections_are_counted_from_zero() {
    let recipe = set(&["data.train.0.weight=0.5", "data.train.1.path=eval.jsonl", "data.eval.0.path=eval.jsonl"]);
    assert_eq!(recipe.data.train.len(), 2);
    assert_eq!(recipe.data.train[0].weight, 0.5);
    assert!(recipe.data.train[1].path.ends_with("eval.jsonl"));
    assert_eq!(recipe.data.eval.len(), 1);
}

#[test]
fn setting_one_of_a_pair_takes_the_other_away() {
    let text = format!("{SHORTEST}[train]\nepochs = 3\n[schedule]\nwarmup_steps = 5\n");
    let recipe = load(&text, &["train.steps=7", "schedule.warmup_ratio=0.1"]).unwrap();
    assert_eq!(recipe.train.duration, Duration::Steps(7));
    assert_eq!(recipe.schedule.warmup, Warmup::Ratio(0.1));
    let text = format!("{SHORTEST}[schedule]\nkind = \"warmup-stable-decay\"\ndecay_steps = 5\n");
    match load(&text, &["schedule.decay_ratio=0.3"]).unwrap().schedule.curve {
        Curve::WarmupStableDecay(curve) => assert_eq!(curve.decay, Decay::Ratio(0.3)),
        other => panic!("{other:?}"),
    }
    let error = load(SHORTEST, &["train.steps=7", "train.epochs=2"]).unwrap_err();
    assert!(shown(&error).contains("keep one of them"), "{}", shown(&error));
}

#[test]
fn errors_show_the_text_of_the_override() {
    for (text, parts) in [
        ("train.batch_szie=8", ["unknown key `batch_szie`", "did you mean `batch_size`?"]),
        ("train.batch_size=eight", ["the string \"eight\"", "an integer"]),
        ("train.batch_size=0", ["out of range", "at least 1"]),
        ("data.train.5.path=x", ["`5` is not an element of this list of 1", "1 appends one"]),
        ("model.x=1", ["inside a plain value", "only sections have keys"]),
        ("seed", ["needs a key and a value", "--set key=value"]),
        ("=1", ["is not a key", "section.key=value"]),
        ("a b=1", ["is not a key", "section.key=value"]),
        ("adapter={kind=", ["not valid TOML", "quotes"]),
    ] {
        let shown = shown(&load(SHORTEST, &[text]).unwrap_err());
        assert!(shown.contains("--set:1:"), "no place in {shown}");
        assert!(shown.contains(text), "{text} is not shown in {shown}");
        for part in parts {
            assert!(shown.contains(part), "`{part}` is missing in {shown}");
        }
    }
}
