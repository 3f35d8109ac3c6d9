//! What differs between the recipe of a run and the one it is to go on with.

use std::path::Path;

use super::super::changes::{Change, Effect};
use super::{folder, load_in};

const RECIPE: &str = "model = \"owner/other\"\noutput = \"runs/a\"\n[[data.train]]\npath = \"rows.jsonl\"\n";

fn changed(recipe: &str, overrides: &[&str]) -> Vec<String> {
    let folder = folder();
    let before = load_in(folder.path(), recipe, &[]).unwrap().recipe.to_toml().unwrap();
    let now = load_in(folder.path(), recipe, overrides).unwrap().recipe;
    let changes = now.changes_since(&before).unwrap();
    changes.iter().map(|change| format!("{change} {:?}", change.effect())).collect()
}

#[test]
fn a_recipe_does_not_differ_from_itself() {
    assert_eq!(changed(RECIPE, &[]), [""; 0]);
}

#[test]
fn every_changed_key_is_named_with_both_values_and_what_it_means() {
    let adapter = format!("{RECIPE}[adapter]\nkind = \"lora\"\n");
    for (recipe, set, expected) in [
        (RECIPE, "train.steps=6", &["train.steps (not there) -> 6 Allowed"][..]),
        (
            &format!("{RECIPE}[train]\nepochs = 1\n"),
            "train={steps=6}",
            &["train.epochs 1 -> (not there) Allowed", "train.steps (not there) -> 6 Allowed"],
        ),
        (RECIPE, "optimizer.learning_rate=1e-5", &["optimizer.learning_rate 0.0002 -> 0.00001 Allowed"]),
        (RECIPE, "seed=8", &["seed 42 -> 8 Run"]),
        (RECIPE, "data.max_length=7", &["data.max_length 1024 -> 7 Data"]),
        (RECIPE, "data.gate.allow_truncated=0.5", &["data.gate.allow_truncated 0.05 -> 0.5 Allowed"]),
        (RECIPE, "model=\"owner/second\"", &["model owner/other -> owner/second Base"]),
        (&adapter, "adapter.rank=3", &["adapter.rank 16 -> 3 Run"]),
        (&adapter, "adapter.dropout=0.5", &["adapter.dropout 0.0 -> 0.5 Allowed"]),
        (&adapter, "export.merge=true", &["export.merge false -> true Allowed"]),
    ] {
        assert_eq!(changed(recipe, &[set]), expected, "{set}");
    }
}

#[test]
fn a_key_that_an_older_version_did_not_know_has_its_default() {
    let folder = folder();
    let recipe = load_in(folder.path(), RECIPE, &[]).unwrap().recipe;
    let written = recipe.to_toml().unwrap();
    let older: String = written
        .lines()
        .filter(|line| !line.starts_with("early") && !line.starts_with("merge"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_ne!(older, written);
    assert_eq!(recipe.changes_since(&older).unwrap(), []);
    assert_eq!(recipe.changes_since("a = 1"), None);
    assert_eq!(recipe.changes_since("["), None);
}

#[test]
fn another_path_to_the_same_file_is_the_same_run() {
    let folder = folder();
    let path = folder.path().join("rows.jsonl");
    std::fs::write(&path, "").unwrap();
    let dotted = folder.path().join("./rows.jsonl");
    let change = |before: &Path, now: &Path| Change {
        key: "data.train.0.path".into(),
        before: before.display().to_string().into(),
        now: now.display().to_string().into(),
    };
    assert_eq!(change(&path, &dotted).effect(), Effect::Allowed);
    assert_eq!(change(&path, folder.path()).effect(), Effect::Data);
}
