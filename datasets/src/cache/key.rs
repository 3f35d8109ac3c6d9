//! What prepared rows are made of, as one hash. What is not known to be harmless is part of it, so a new setting can
//! only cause rows to be made again, never to be taken for others.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::DataConfig;
use crate::hex::hex;
use crate::prepare::Prepare;
use crate::store::STORE_VERSION;

/// Settings of `[data]` that change no prepared row: they say which rows are visited when, or stand in the key by content.
const ELSEWHERE: [&str; 10] =
    ["packing", "shuffle", "group_by_length", "validation_split", "cache", "template", "date", "gate", "train", "eval"];
/// The same of a source. Its files stand in the key by what they are and hold.
const ELSEWHERE_IN_SOURCE: [&str; 4] = ["path", "weight", "rows", "epochs"];

/// The key of the rows of `request`, whose sources have files of these kinds with these hashes; `None` when the rows
/// depend on something that no key can hold.
pub(crate) fn key(request: &Prepare<'_>, files: &[Vec<(&str, &str)>]) -> Option<String> {
    let config = request.config;
    // A template that prints the day prints that of the clock, unless the recipe says one.
    let dated = request.template.is_some_and(|template| template.tells_the_date());
    if dated && config.date.is_none() {
        return None;
    }
    let sources = config.sources(request.rows_of());
    let sources: Option<Vec<Value>> = sources
        .iter()
        .zip(files)
        .map(|(source, files)| {
            let mut source = serde_json::to_value(source).ok()?;
            remove(&mut source, &ELSEWHERE_IN_SOURCE);
            Some(json!({ "settings": source, "files": files }))
        })
        .collect();
    let all = json!({
        "program": env!("CARGO_PKG_VERSION"),
        "store": STORE_VERSION,
        "tokenizer": request.tokenizer.map(|tokenizer| tokenizer.hash()),
        "template": request.template.map(|template| template.template_hash()),
        "date": config.date.as_ref().filter(|_| dated),
        "settings": settings(config)?,
        "sources": sources?,
    });
    Some(hex(&Sha256::digest(all.to_string())))
}

fn settings(config: &DataConfig) -> Option<Value> {
    let mut settings = serde_json::to_value(config).ok()?;
    let mut gate = settings.get("gate").cloned().unwrap_or_default();
    remove(&mut settings, &ELSEWHERE);
    // Thresholds are held against prepared rows. What else the gate is told may change them.
    if let Some(gate) = gate.as_object_mut() {
        gate.retain(|name, _| !name.starts_with("allow_") && name != "few_labels");
    }
    settings["gate"] = gate;
    Some(settings)
}

fn remove(value: &mut Value, names: &[&str]) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| !names.contains(&name.as_str()));
    }
}
