//! [`RunInfo`], the content of `run.json`: what a run was made from, so that it can be repeated and
//! a resume can tell whether anything has changed since.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The content of `run.json`. All hashes are sha256 in lower-case hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Hash by file name, for the base model's weights, configuration and tokenizer.
    pub base: BTreeMap<String, String>,
    /// Hash by path, for every training and evaluation file.
    pub data: BTreeMap<String, String>,
    /// Hash of the chat template, when one is used.
    pub template: Option<String>,
    /// Hash of the resolved recipe.
    pub recipe: String,
    /// Version by name of the program or library.
    pub versions: BTreeMap<String, String>,
    /// The device the run computes on, as `--device` names it.
    pub device: String,
    /// The seed of shuffling, initialisation and dropout.
    pub seed: u64,
}

impl RunInfo {
    /// The differences from an earlier run, one line each; empty if a resume gives the same bytes.
    pub fn differences(&self, earlier: &RunInfo) -> Vec<String> {
        let mut lines = Vec::new();
        compare_maps("base model file", &earlier.base, &self.base, &mut lines);
        compare_maps("data file", &earlier.data, &self.data, &mut lines);
        compare_maps("version of", &earlier.versions, &self.versions, &mut lines);
        if self.template != earlier.template {
            lines.push("the chat template changed".to_string());
        }
        if self.recipe != earlier.recipe {
            lines.push("the recipe changed".to_string());
        }
        if self.device != earlier.device {
            lines.push(format!("device {} -> {}", earlier.device, self.device));
        }
        if self.seed != earlier.seed {
            lines.push(format!("seed {} -> {}", earlier.seed, self.seed));
        }
        lines
    }
}

fn compare_maps(
    what: &str,
    earlier: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    lines: &mut Vec<String>,
) {
    for (name, value) in earlier {
        match now.get(name) {
            None => lines.push(format!("{what} {name} is gone")),
            Some(other) if other != value => lines.push(format!("{what} {name} changed")),
            Some(_) => {}
        }
    }
    for name in now.keys().filter(|name| !earlier.contains_key(*name)) {
        lines.push(format!("{what} {name} is new"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_named() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, hash)| (name.to_string(), hash.to_string())).collect::<BTreeMap<_, _>>()
        };
        let earlier = RunInfo {
            base: map(&[("model.safetensors", "aa")]),
            data: map(&[("a.jsonl", "aa"), ("b.jsonl", "bb")]),
            template: Some("aa".into()),
            recipe: "aa".into(),
            versions: map(&[("firebrand", "0.1.0")]),
            device: "cpu".into(),
            seed: 1,
        };
        assert!(earlier.differences(&earlier).is_empty());
        let now = RunInfo {
            data: map(&[("a.jsonl", "ab"), ("c.jsonl", "cc")]),
            template: None,
            recipe: "bb".into(),
            device: "cuda:0".into(),
            seed: 2,
            ..earlier.clone()
        };
        assert_eq!(
            now.differences(&earlier),
            [
                "data file a.jsonl changed",
                "data file b.jsonl is gone",
                "data file c.jsonl is new",
                "the chat template changed",
                "the recipe changed",
                "device cpu -> cuda:0",
                "seed 1 -> 2",
            ]
        );
    }
}
