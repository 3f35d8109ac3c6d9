//! The keys by which a recipe differs from the one a run began with, and what each means for a run that goes on:
//! [`Recipe::changes_since`].
//!
//! Both sides are resolved recipes, so a default that is written out on one side is written out on the other. A key that
//! the older one does not know yet has its default there.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::Recipe;
use super::file::RecipeFile;

/// Longest value that is shown, in characters.
const SHOWN: usize = 60;

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, as `--set` names it.
    pub key: String,
    /// The value before; `null`: the key was not there.
    pub before: Value,
    /// The value now; `null`: the key is not there.
    pub now: Value,
}

/// What a changed key means for a run that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The run goes on, by the new value from here.
    Allowed,
    /// Another base model under what was trained.
    Base,
    /// Other rows, or the same ones in another order.
    Data,
    /// Another run: other weights, another optimiser, other steps.
    Run,
}

impl Recipe {
    /// The keys that differ from `earlier`, the text of a resolved recipe. `None` if `earlier` is no recipe of this version.
    pub fn changes_since(&self, earlier: &str) -> Option<Vec<Change>> {
        // A recipe of an older version gets the defaults of keys that came later.
        let before = serde_json::to_value(toml::from_str::<RecipeFile>(earlier).ok()?).ok()?;
        let now = serde_json::to_value(RecipeFile::from(self)).ok()?;
        Some(differences(&leaves(&before), &leaves(&now)))
    }
}

impl Recipe {
    /// The date that templates print in the run of `earlier`, the text of a resolved recipe.
    pub fn date_in(earlier: &str) -> Option<String> {
        let written: toml::Table = toml::from_str(earlier).ok()?;
        Some(written.get("data")?.get("date")?.as_str()?.to_string())
    }

    /// The settings by which runs are compared: what is trained and how, without files, logs and checkpoints.
    pub fn settings(&self) -> Vec<(String, Value)> {
        let all = serde_json::to_value(RecipeFile::from(self)).map(|recipe| leaves(&recipe)).unwrap_or_default();
        let compared = |key: &str| {
            let section = key.split('.').next().unwrap_or_default();
            let of_data = [
                "data.max_length",
                "data.packing",
                "data.document_attention",
                "data.train_on",
                "data.shuffle",
                "data.group_by_length",
            ];
            !["output", "device", "data", "eval", "checkpoint", "log", "sample", "export"].contains(&section)
                || of_data.contains(&key)
        };
        all.into_iter().filter(|(key, _)| compared(key)).collect()
    }
}

impl Change {
    /// What the change means for a run that goes on. Two paths to one file or folder are no change.
    pub fn effect(&self) -> Effect {
        if same_place(&self.before, &self.now) {
            return Effect::Allowed;
        }
        let parts: Vec<&str> = self.key.split('.').collect();
        match parts.as_slice() {
            ["seed" | "init" | "vocabulary", ..] => Effect::Run,
            ["model" | "base_dtype" | "quantization", ..] => Effect::Base,
            ["adapter", "dropout" | "loraplus_lr_ratio" | "loraplus_lr_embedding"] => Effect::Allowed,
            ["adapter", ..] => Effect::Run,
            // An objective that is not named is the usual one of the model.
            ["objective", ..] if self.before.is_null() => Effect::Allowed,
            ["objective", "labels" | "problem" | "reference", ..] => Effect::Run,
            ["optimizer" | "objective", "kind"] | ["train", "batch_size" | "freeze"] => Effect::Run,
            // The average of the steps before is not there.
            ["train", "ema"] if self.before.is_null() => Effect::Run,
            ["data", "cache" | "gate" | "allow_outside" | "max_pixels", ..] => Effect::Allowed,
            // Rows to evaluate on where there were none change nothing of what is trained.
            ["data", "eval", ..] if self.before.is_null() => Effect::Allowed,
            ["data", ..] => Effect::Data,
            _ => Effect::Allowed,
        }
    }
}

impl Change {
    /// Whether the key says what is shown and written, and not how is trained.
    pub fn is_of_results(&self) -> bool {
        let section = self.key.split('.').next().unwrap_or_default();
        ["output", "device", "checkpoint", "log", "sample", "export"].contains(&section)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.key, shown(&self.before), shown(&self.now))
    }
}

/// A value as a recipe would have it, without quotes around a lone word.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => return "(not there)".into(),
        Value::String(text) if !text.is_empty() => text.clone(),
        other => other.to_string(),
    };
    let line = text.replace('\n', "\\n");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}..", &line[..end]),
        None => line,
    }
}

fn same_place(before: &Value, now: &Value) -> bool {
    let place = |value: &Value| value.as_str().and_then(|path| Path::new(path).canonicalize().ok());
    place(before).is_some_and(|before| Some(before) == place(now))
}

/// Keys and values of everything but sections; of lists, only those of sections are gone into.
fn leaves(recipe: &Value) -> Vec<(String, Value)> {
    let mut found = vec![];
    collect("", recipe, &mut found);
    found
}

fn collect(key: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    let below = |name: &str| if key.is_empty() { name.to_string() } else { format!("{key}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(section) => section.iter().for_each(|(name, inner)| collect(&below(name), inner, found)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(index, inner)| collect(&below(&index.to_string()), inner, found));
        }
        other => found.push((key.to_string(), other.clone())),
    }
}

fn differences(before: &[(String, Value)], now: &[(String, Value)]) -> Vec<Change> {
    let value_in = |leaves: &[(String, Value)], key: &str| {
        leaves.iter().find(|(name, _)| name == key).map_or(Value::Null, |(_, value)| value.clone())
    };
    let added = now.iter().filter(|(key, _)| !before.iter().any(|(name, _)| name == key));
    before
        .iter()
        .chain(added)
        .map(|(key, _)| Change { key: key.clone(), before: value_in(before, key), now: value_in(now, key) })
        .filter(|change| change.before != change.now)
        .collect()
}
