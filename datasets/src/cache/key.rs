//! The key of a store: one hash of everything its prepared rows depend on. Every setting that is not known to be
//! harmless is part of it, so a new setting can only cause rows to be prepared again, never the wrong rows to be found.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::DataConfig;
use crate::hex::hex;
use crate::prepare::Prepare;
use crate::store::STORE_VERSION;

/// Settings of `[data]` that change no prepared row: they say which rows are visited when, or their content is hashed.
const ELSEWHERE: [&str; 11] = [
    "packing",
    "document_attention",
    "shuffle",
    "group_by_length",
    "validation_split",
    "cache",
    "template",
    "date",
    "gate",
    "train",
    "eval",
];
/// The same for settings of a source. Its files are part of the key by how they are read and by their content.
const ELSEWHERE_IN_SOURCE: [&str; 4] = ["path", "weight", "rows", "epochs"];

/// The key of the rows of `request`. `files` gives, for each source, how each file is read and its hash. `None` when
/// the rows depend on something that no key can hold.
pub(crate) fn key(request: &Prepare<'_>, files: &[Vec<(&str, &str)>]) -> Option<String> {
    let config = request.config;
    // A template that prints today's date takes it from the clock, unless the recipe sets a date.
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
        "pictures": request.pictures.map(|pictures| pictures.captions.iter().map(|caption| {
            json!({
                "name": caption.name,
                "tokenizer": caption.tokenizer.hash(),
                "longest": caption.longest,
                "padding": caption.padding,
            })
        }).collect::<Vec<_>>()),
        "settings": settings(config)?,
        "sources": sources?,
    });
    Some(hex(&Sha256::digest(all.to_string())))
}

fn settings(config: &DataConfig) -> Option<Value> {
    let mut settings = serde_json::to_value(config).ok()?;
    let mut gate = settings.get("gate").cloned().unwrap_or_default();
    remove(&mut settings, &ELSEWHERE);
    // Thresholds are compared with prepared rows and do not change them. Other settings of the gate may.
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
