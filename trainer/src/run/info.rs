//! [`RunInfo`], the content of `run.json`: what a run was made from and where it ran, so that it can be repeated and a
//! resume can tell whether anything has changed since.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::leftovers::INFO;
use crate::device::Hardware;
use crate::host::Host;
use crate::objective::Recompute;

/// The content of `run.json`. All hashes are sha256 in lower-case hexadecimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Hash by file name, for the base model's weights, configuration and tokenizer.
    pub base: BTreeMap<String, String>,
    /// Hash by path, for every training and evaluation file.
    pub data: BTreeMap<String, String>,
    /// Hash of the chat template, when one is used.
    pub template: Option<String>,
    /// Hash of the resolved recipe, by which the run goes on now.
    pub recipe: String,
    /// Version by name of the program or library.
    pub versions: BTreeMap<String, String>,
    /// The device the run computes on, as `--device` names it. `auto` is decided.
    pub device: String,
    /// The hardware behind that device, where it is not the machine's processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Hardware>,
    /// The seed of shuffling, initialisation and dropout.
    pub seed: u64,
    /// The machine.
    #[serde(default)]
    pub host: Host,
    /// In what portions steps ran, by the plan of their memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<PlannedMemory>,
    /// The command line that began the run.
    #[serde(default)]
    pub command: Vec<String>,
    /// When the run began, in UTC (RFC 3339).
    #[serde(default)]
    pub started: String,
    /// Every time the run was gone on with, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Continuation>,
}

/// How a run was fitted into the memory of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMemory {
    /// The most rows (packs when packing) at once.
    pub micro_batch_size: usize,
    /// The most rows at once that the recipe allows.
    pub allowed: usize,
    /// What the backward pass recomputed.
    pub recompute: Recompute,
    /// Bytes that were planned for.
    pub bytes: u64,
}

/// A time the run was gone on with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continuation {
    /// Steps done before.
    pub step: u64,
    /// When, in UTC (RFC 3339).
    pub time: String,
    /// The command line.
    pub command: Vec<String>,
    /// Keys of the recipe that changed: the value before and the value since. An absent key is `null`.
    pub changed: BTreeMap<String, (Value, Value)>,
    /// Whatever else changed, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

/// What differs from the start of a run, but for keys of the recipe. One line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Of the base model.
    pub base: Vec<String>,
    /// Of data and template.
    pub data: Vec<String>,
    /// Versions and device: the bytes may differ, the run is the same.
    pub harmless: Vec<String>,
}

impl RunInfo {
    /// How the run in a folder was fitted into memory, where its `run.json` says so.
    pub fn memory_in(folder: &Path) -> Option<PlannedMemory> {
        let text = fs::read_to_string(folder.join(INFO)).ok()?;
        serde_json::from_str::<Self>(&text).ok()?.memory
    }

    /// The differences from an earlier start of the run.
    pub fn differences(&self, earlier: &RunInfo) -> Differences {
        let mut found = Differences::default();
        // What only generation reads may change under a run.
        for (name, hash) in earlier.base.iter().filter(|(name, _)| *name != "generation_config.json") {
            match self.base.get(name) {
                None => found.base.push(format!("{name} is gone")),
                Some(now) if now != hash => found.base.push(format!("{name} changed")),
                Some(_) => {}
            }
        }
        // Files that say nothing of weights may be added, and older versions did not list all of today's.
        let added = self.base.keys().filter(|name| !earlier.base.contains_key(*name) && is_weights(name));
        found.base.extend(added.map(|name| format!("{name} is new")));
        found.data = self.changed_data(earlier);
        if self.template != earlier.template {
            found.data.push("the chat template changed".to_string());
        }
        for (name, version) in &earlier.versions {
            if let Some(now) = self.versions.get(name).filter(|now| *now != version) {
                found.harmless.push(format!("{name} {version} -> {now}"));
            }
        }
        // Older versions wrote the word of the recipe.
        if self.device != earlier.device && earlier.device != "auto" {
            found.harmless.push(format!("device {} -> {}", earlier.device, self.device));
        }
        if let (Some(now), Some(before)) = (&self.hardware, &earlier.hardware)
            && now != before
        {
            found.harmless.push(format!("hardware {before} -> {now}"));
        }
        found
    }

    /// Files of rows whose content is not what it was. The same content under another path is no change.
    fn changed_data(&self, earlier: &RunInfo) -> Vec<String> {
        let contents = |info: &RunInfo| {
            let mut hashes: Vec<String> = info.data.values().cloned().collect();
            hashes.sort_unstable();
            hashes
        };
        if contents(self) == contents(earlier) {
            return vec![];
        }
        let mut lines = vec![];
        for (path, hash) in &earlier.data {
            match self.data.get(path) {
                None => lines.push(format!("{path} is gone")),
                Some(now) if now != hash => lines.push(format!("{path} changed")),
                Some(_) => {}
            }
        }
        let added = self.data.keys().filter(|path| !earlier.data.contains_key(*path));
        lines.extend(added.map(|path| format!("{path} is new")));
        lines
    }
}

/// Whether a file of a model folder holds weights.
fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, hash)| (name.to_string(), hash.to_string())).collect()
    }

    fn hardware(name: &str) -> Option<Hardware> {
        Some(Hardware { name: name.into(), driver: Some("2".into()) })
    }

    fn earlier() -> RunInfo {
        RunInfo {
            base: map(&[("model.safetensors", "aa"), ("config.json", "cc"), ("generation_config.json", "ff")]),
            data: map(&[("a.jsonl", "aa"), ("b.jsonl", "bb")]),
            template: Some("aa".into()),
            recipe: "aa".into(),
            versions: map(&[("firebrand", "0.1.0")]),
            device: "cpu".into(),
            hardware: hardware("A"),
            seed: 1,
            ..RunInfo::default()
        }
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let earlier = earlier();
        assert_eq!(earlier.differences(&earlier), Differences::default());
        let now = RunInfo {
            base: map(&[("model.safetensors", "ab"), ("model-2.safetensors", "dd"), ("notes.json", "ee")]),
            data: map(&[("a.jsonl", "ab"), ("c.jsonl", "cc")]),
            template: None,
            versions: map(&[("firebrand", "0.2.0")]),
            device: "cuda:0".into(),
            hardware: hardware("B"),
            ..earlier.clone()
        };
        let found = now.differences(&earlier);
        assert_eq!(found.base, ["config.json is gone", "model.safetensors changed", "model-2.safetensors is new"]);
        let data = ["a.jsonl changed", "b.jsonl is gone", "c.jsonl is new", "the chat template changed"];
        assert_eq!(found.data, data);
        assert_eq!(
            found.harmless,
            ["firebrand 0.1.0 -> 0.2.0", "device cpu -> cuda:0", "hardware A, driver 2 -> B, driver 2"]
        );
    }

    #[test]
    fn the_same_rows_in_another_place_are_the_same() {
        let moved = RunInfo { data: map(&[("/x/a.jsonl", "aa"), ("/x/b.jsonl", "bb")]), ..earlier() };
        assert_eq!(moved.differences(&earlier()), Differences::default());
    }

    #[test]
    fn a_file_of_an_older_version_is_read() {
        let text = r#"{"base": {}, "data": {}, "template": null, "recipe": "aa", "versions": {}, "device": "auto", "seed": 1}"#;
        let read: RunInfo = serde_json::from_str(text).unwrap();
        assert_eq!(RunInfo { device: "cpu".into(), ..read.clone() }.differences(&read), Differences::default());
        assert!(read.history.is_empty());
    }
}
