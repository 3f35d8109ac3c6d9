//! Weights that a full run leaves as they are (`train.freeze`).

use firebrand_tests::tensors;
use serde_json::Value;

use crate::workshop::{RECIPE, Workshop, assert_says};

/// A full run.
fn workshop() -> Workshop {
    let workshop = Workshop::new();
    let (before, rest) = RECIPE.split_once("[adapter]").unwrap();
    let (_, after) = rest.split_once("[data]").unwrap();
    workshop.write("recipe.toml", &format!("{before}[data]{after}"));
    workshop
}

#[test]
fn frozen_weights_keep_their_bytes_and_the_others_learn() {
    let workshop = workshop();
    let freeze = r#"train.freeze=["layers\\.0\\.", "norm"]"#;
    for recompute in ["off", "blocks"] {
        let recompute = format!("train.recompute={recompute}");
        let output = recompute.replace('=', "-");
        workshop.succeed(&["train", "recipe.toml", "--output", &output, "--set", freeze, "--set", &recompute]);
        let before = tensors::read_folder(&workshop.path("model"));
        let after = tensors::read_folder(&workshop.path(&format!("{output}/model")));
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        let mut kept = 0;
        for (name, values) in &before {
            let frozen = name.contains("layers.0.") || name.contains("norm");
            assert_eq!(*values == after[name], frozen, "{name}");
            kept += usize::from(frozen);
        }
        assert!(kept > 5 && kept < before.len() - 5, "{kept} of {}", before.len());
    }
}

#[test]
fn a_pattern_without_a_match_and_a_run_of_nothing_are_refused() {
    let workshop = workshop();
    for verb in ["check", "train"] {
        let fails =
            |pattern: &str| workshop.fail(&[verb, "recipe.toml", "--set", &format!("train.freeze=[{pattern}]")]);
        assert_says!(fails("\"norm\", \"layer\\\\.0\""), "`layer\\.0` is found in no name", "train.freeze", "model.");
        assert_says!(fails("\".\""), "every weight is frozen", "train.freeze");
        assert_says!(fails("\"(\""), "is not a regular expression", "train.freeze");
    }
    assert!(!workshop.path("run").exists());
}

#[test]
fn what_is_frozen_costs_no_gradient_and_no_state_and_stays_so() {
    let workshop = workshop();
    let planned = |setting: &str| {
        let said = workshop.succeed(&["check", "recipe.toml", "--json", "--set", setting]);
        let report: Value = serde_json::from_str(&said.stdout).unwrap();
        (report["trained_parameters"].as_u64().unwrap(), report["memory"]["optimizer"].as_u64().unwrap())
    };
    let (all, few) = (planned("seed=1"), planned("train.freeze=[\"embed_tokens\"]"));
    assert!(few.0 < all.0 && few.1 == few.0 * 8, "{few:?} of {all:?}");
    workshop.succeed(&["train", "recipe.toml", "--set", "train.freeze=[\"norm\"]"]);
    let other = ["train", "recipe.toml", "--resume", "--set", "train.freeze=[\"embed\"]", "--set", "train.steps=5"];
    assert_says!(workshop.fail(&other), "train.freeze");
}
